"""A server that answers what it should not: nothing of it reaches training, and the key reaches nobody else."""

import contextlib
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from easydel_models.errors import EngineError, OptionsError
from easydel_models.generation import GenerationOptions, HttpEngine, Patience
from easydel_models.generation.http_post import post_json

KEY = "a-secret-key"
OPTIONS = GenerationOptions(max_new_tokens=3)
QUICK = Patience(timeout=5.0, total_timeout=1.0, max_bytes=100_000, retries=0)


class Server:
    """Answers every request with `content`, or by `behave(handler)`; keeps the headers it was sent."""

    def __init__(self, behave):
        server = self
        self.headers = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                server.headers.append(dict(self.headers))
                self.rfile.read(int(self.headers["Content-Length"]))
                with contextlib.suppress(OSError):  # the client has seen enough
                    behave(self)

            do_GET = do_POST

            def log_message(self, *arguments):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def serve():
    servers = []

    def start(behave):
        servers.append(Server(behave))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def answering(content, status=200, **headers):
    def behave(handler):
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)

    return behave


def refused(server, **options):
    engine = HttpEngine(server.url, model="tiny", patience=QUICK, api_key=KEY, **options)
    with pytest.raises(EngineError) as caught:
        engine.generate([[1, 2]], OPTIONS)
    text = str(caught.value)
    assert KEY not in text
    assert "\x1b" not in text
    return text


def choice(**changed):
    good = {"index": 0, "token_ids": [3], "logprobs": {"token_logprobs": [-0.5]}, "finish_reason": "stop"}
    return json.dumps({"choices": [good | changed]}).encode()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"token_ids": [-1]}, "is -1, outside the vocabulary"),
        ({"token_ids": [32]}, "is 32, outside the vocabulary of 32"),
        ({"token_ids": [2**70]}, "outside the vocabulary"),
        ({"token_ids": [1, 2, 3, 4], "logprobs": {"token_logprobs": [-1.0] * 4}}, "4 tokens where at most 3"),
        ({"token_ids": ["3"]}, "expected a list of whole numbers"),
        ({"token_ids": [3.5]}, "expected a list of whole numbers"),
        ({"token_ids": [True]}, "expected a list of whole numbers"),
        ({"token_ids": {"3": 3}}, "expected a list of whole numbers"),
        ({"token_ids": None, "logprobs": {"tokens": ["token_id:²"], "token_logprobs": [-1.0]}}, "no token ids"),
        ({"logprobs": {"token_logprobs": ["-0.5"]}}, "no finite number"),
        ({"logprobs": {"token_logprobs": [float("nan")]}}, "no finite number"),
        ({"logprobs": {"token_logprobs": [10**400]}}, "no finite number"),
        ({"logprobs": {"token_logprobs": [7.0]}}, "at most 0"),
        ({"logprobs": [1]}, "no log-probabilities"),
        ({"index": 5}, "numbered its completions"),
        ({"index": "0"}, "numbered its completions"),
        ({"finish_reason": ["stop"]}, "for the reason"),
        ({"finish_reason": "\x1b[2J" + "x" * 10_000}, "for the reason"),
    ],
)
def test_a_completion_of_wrong_types_or_ids_is_refused(serve, changed, said):
    assert said in refused(serve(answering(choice(**changed))), vocab_size=32)


@pytest.mark.parametrize("choices", [[1], [None], {"a": 1}, "text", [[]]])
def test_choices_of_wrong_types_are_refused(serve, choices):
    assert "the server" in refused(serve(answering(json.dumps({"choices": choices}).encode())))


def test_deep_json_is_no_answer(serve):
    assert "no JSON" in refused(serve(answering(b"[" * 90_000)))


def test_the_key_follows_no_redirect(serve):
    other = serve(answering(choice()))
    for status in (301, 302, 303, 307, 308):
        first = serve(answering(b"", status, Location=other.url.replace("//", f"//user:{KEY}@")))
        assert "redirects to http://127.0.0.1" in refused(first)
    assert other.headers == []


def test_a_key_that_the_server_repeats_is_not_shown(serve):
    assert "HTTP 400" in refused(serve(answering(f"no such key: {KEY}".encode() * 30, 400)))


def test_an_endless_answer_is_not_read_on(serve):
    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b" " * 65536)

    assert "more than 100,000 bytes" in refused(serve(endless))


def test_an_answer_that_drips_is_given_up_in_time(serve):
    def dripping(handler):
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.05)

    start = time.monotonic()
    assert "longer than 1 seconds in all" in refused(serve(dripping))
    assert time.monotonic() - start < 4


def test_headers_that_drip_are_given_up_in_time():
    listening = socket.create_server(("127.0.0.1", 0))

    def drip():
        connection, _ = listening.accept()
        try:
            for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1000:
                connection.send(bytes([byte]))
                time.sleep(0.05)
        except OSError:
            pass
        connection.close()

    threading.Thread(target=drip, daemon=True).start()
    start = time.monotonic()
    with pytest.raises(EngineError, match="longer than 1 seconds in all"):
        post_json(f"http://127.0.0.1:{listening.getsockname()[1]}/", {}, {}, QUICK)
    assert time.monotonic() - start < 4
    listening.close()


@pytest.mark.parametrize("url", ["http://", "http://a:b/", f"http://user:{KEY}@host:999999/", "ftp://a", "http://a b/"])
def test_an_address_that_is_none_is_refused_without_repeating_it(url):
    with pytest.raises(OptionsError, match="`url` must be an address") as caught:
        HttpEngine(url, model="tiny")
    assert KEY not in str(caught.value)


def test_a_key_with_a_line_break_is_refused_without_repeating_it():
    with pytest.raises(OptionsError, match="`api_key` holds characters") as caught:
        HttpEngine("http://a", model="tiny", api_key=f"{KEY}\n")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("temperature", [float("nan"), float("inf"), 0.0])
def test_a_temperature_is_a_positive_number(temperature):
    with pytest.raises(OptionsError, match="`temperature` must be"):
        GenerationOptions(max_new_tokens=1, do_sample=True, temperature=temperature)
