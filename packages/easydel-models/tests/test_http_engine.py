"""The HTTP engine against a real server on loopback, which the tests start and tell how to misbehave."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from easydel_models.config import DecoderConfig
from easydel_models.errors import EngineError
from easydel_models.generation import GenerationEngine, GenerationOptions, HttpEngine, ModelEngine, Patience

PROMPTS = [[5], [7, 8, 9], [3, 4]]
QUICK = Patience(timeout=60.0, retries=2, first_pause=0.01)
KEY = "a-secret-key"


def counting_up(body):
    """Completions that continue by one: the first of two stops by itself, the second is cut."""
    ends = ["stop", "length"] * body["n"]
    return [
        {
            "index": i,
            "token_ids": [body["prompt"][-1] + 1 + i],
            "logprobs": {"token_logprobs": [-0.5]},
            "finish_reason": end,
        }
        for i, end in enumerate(ends[: body["n"]])
    ]


class Server:
    """Records requests; answers by `behave(body, number)`: a list of choices, bytes, or (status, headers, body)."""

    def __init__(self, behave):
        self.requests, self.most_at_once = [], 0
        self._at_once, self._lock = 0, threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server._lock:
                    number = len(server.requests)
                    server.requests.append((self.path, dict(self.headers), body))
                    server._at_once += 1
                    server.most_at_once = max(server.most_at_once, server._at_once)
                try:
                    answer = behave(body, number)
                finally:
                    with server._lock:
                        server._at_once -= 1
                status, headers, content = answer if isinstance(answer, tuple) else (200, {}, answer)
                content = content if isinstance(content, bytes) else json.dumps({"choices": content}).encode()
                try:
                    self.send_response(status)
                    for name, value in {**headers, "Content-Length": str(len(content))}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(content)
                except OSError:
                    pass  # The client has gone: its timeout is what a test is about.

            def log_message(self, *arguments):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self):
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def serve():
    servers = []

    def start(behave=lambda body, number: counting_up(body)):
        servers.append(Server(behave))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def engine_of(server, **options):
    return HttpEngine(server.url, **{"model": "tiny", "patience": QUICK} | options)


def test_completions_come_back_in_the_order_of_the_prompts_although_they_are_asked_for_at_once(serve):
    together = threading.Barrier(3, timeout=60)

    def slow_for_early_prompts(body, number):
        together.wait()
        time.sleep(0.05 * (9 - body["prompt"][-1]))
        return counting_up(body)

    server = serve(slow_for_early_prompts)
    result = engine_of(server).generate(PROMPTS, GenerationOptions(max_new_tokens=4, num_return_sequences=2))
    assert result.token_ids == [[6], [7], [10], [11], [5], [6]]
    assert result.logprobs == [[-0.5]] * 6
    assert result.finish_reasons == ["stop", "length"] * 3
    assert server.most_at_once == 3


def test_no_more_requests_at_once_than_allowed(serve):
    def slow(body, number):
        time.sleep(0.02)
        return counting_up(body)

    server = serve(slow)
    engine_of(server, concurrency=2).generate(PROMPTS * 3, GenerationOptions(max_new_tokens=4))
    assert server.most_at_once <= 2
    assert len(server.requests) == 9


def test_every_option_reaches_the_server_under_its_name_there(serve):
    server = serve()
    options = GenerationOptions(
        max_new_tokens=9,
        num_return_sequences=2,
        do_sample=True,
        temperature=0.7,
        top_k=5,
        top_p=0.9,
        min_p=0.1,
        repetition_penalty=1.2,
        min_new_tokens=3,
        seed=4,
        stop_strings=("END",),
        eos_token_ids=(2, 11),
    )
    engine_of(server).generate([[5, 6]], options)
    path, _, body = server.requests[0]
    assert path == "/v1/completions"
    assert body == {
        "model": "tiny",
        "prompt": [5, 6],
        "n": 2,
        "max_tokens": 9,
        "temperature": 0.7,
        "top_k": 5,
        "top_p": 0.9,
        "min_p": 0.1,
        "repetition_penalty": 1.2,
        "min_tokens": 3,
        "seed": 1_293_152_914,  # of blake2b("4/0")
        "stop": ["END"],
        "include_stop_str_in_output": True,
        "ignore_eos": True,
        "stop_token_ids": [2, 11],
        "logprobs": 1,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }


def test_what_is_off_is_not_mentioned_and_greedy_is_temperature_zero(serve):
    server = serve()
    engine_of(server).generate(PROMPTS, GenerationOptions(max_new_tokens=4))
    bodies = [body for _, _, body in server.requests]
    assert {body["temperature"] for body in bodies} == {0.0}
    assert not {"top_k", "top_p", "min_p", "repetition_penalty", "min_tokens", "stop", "ignore_eos"} & bodies[0].keys()
    assert len({body["seed"] for body in bodies}) == 3


def test_a_model_behind_a_server_answers_as_it_does_in_process(serve, random_model):
    config = DecoderConfig(
        vocab_size=61, dim=32, num_layers=2, num_heads=4, num_kv_heads=2, mlp_dim=48, eos_token_ids=(2, 3)
    )
    inside, lock = ModelEngine(random_model(config, seed=1)), threading.Lock()

    def answer(body, number):
        with lock:
            options = GenerationOptions(max_new_tokens=body["max_tokens"], num_return_sequences=body["n"])
            found = inside.generate([body["prompt"]], options)
        parts = zip(found.token_ids, found.logprobs, found.finish_reasons, strict=True)
        return [
            {"index": i, "token_ids": ids, "logprobs": {"token_logprobs": logps}, "finish_reason": reason}
            for i, (ids, logps, reason) in enumerate(parts)
        ]

    options = GenerationOptions(max_new_tokens=6, num_return_sequences=2)
    outside: GenerationEngine = engine_of(serve(answer), patience=Patience())
    found, wanted = outside.generate(PROMPTS, options), inside.generate(PROMPTS, options)
    assert found.token_ids == wanted.token_ids
    assert found.finish_reasons == wanted.finish_reasons
    for ours, theirs in zip(found.logprobs, wanted.logprobs, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)


def test_token_ids_are_read_from_names_where_the_server_knows_no_better(serve):
    choice = {"logprobs": {"tokens": ["token_id:6", "token_id:2"], "token_logprobs": [-1, -2]}, "finish_reason": "stop"}
    result = engine_of(serve(lambda body, number: [choice])).generate([[5]], GenerationOptions(max_new_tokens=4))
    assert (result.token_ids, result.logprobs) == ([[6, 2]], [[-1.0, -2.0]])


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(serve, status):
    server = serve(lambda body, number: (status, {}, b"busy") if number < 2 else counting_up(body))
    result = engine_of(server).generate([[5]], GenerationOptions(max_new_tokens=4))
    assert result.token_ids == [[6]]
    assert len(server.requests) == 3


def test_pauses_grow_and_heed_what_the_server_asks_for():
    patience = Patience(first_pause=1.0)
    assert all(0.75 * 2**n <= patience.pause(n, None) <= 1.25 * 2**n for n in range(4))
    assert patience.pause(0, "7") == 7.0
    assert patience.pause(0, "Wed, 21 Oct 2026 07:28:00 GMT") <= 1.25
    assert patience.pause(20, None) == patience.pause(0, "4000") == 30.0


def test_a_server_that_stays_busy_is_given_up_with_its_last_words(serve):
    server = serve(lambda body, number: (503, {}, b"still loading"))
    with pytest.raises(EngineError, match=r"/v1/completions gave no answer in 3 attempts; .*HTTP 503: still loading"):
        engine_of(server).generate([[5]], GenerationOptions(max_new_tokens=4))
    assert len(server.requests) == 3


def test_a_refusal_is_not_repeated_and_says_why(serve):
    server = serve(lambda body, number: (400, {}, b'{"message": "prompt is too long"}'))
    with pytest.raises(EngineError, match=r"refused the request with HTTP 400: .*prompt is too long"):
        engine_of(server).generate([[5]], GenerationOptions(max_new_tokens=4))
    assert len(server.requests) == 1


def test_nobody_listening_is_an_error_soon(serve):
    server = serve()
    server.close()
    engine = HttpEngine(server.url, model="tiny", patience=Patience(retries=1, first_pause=0.01))
    with pytest.raises(EngineError, match=r"gave no answer in 2 attempts.*Is the server up"):
        engine.generate([[5]], GenerationOptions(max_new_tokens=4))
    server._http.server_close()


def test_a_silent_server_is_given_up_after_the_timeout(serve):
    server = serve(lambda body, number: time.sleep(0.6) or counting_up(body))
    engine = engine_of(server, patience=Patience(timeout=0.1, retries=1, first_pause=0.01))
    with pytest.raises(EngineError, match=r"in 2 attempts; the last one: .*timed out"):
        engine.generate([[5]], GenerationOptions(max_new_tokens=4))


def test_the_key_is_sent_and_never_shown(serve):
    server = serve(lambda body, number: (401, {}, b"who are you?"))
    with pytest.raises(EngineError) as caught:
        engine_of(server, api_key=KEY).generate([[5]], GenerationOptions(max_new_tokens=4))
    assert server.requests[0][1]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in str(caught.value)
    hidden = HttpEngine("http://user:password@127.0.0.1:1/v1", model="tiny", patience=Patience(retries=0))
    with pytest.raises(EngineError, match=r"^http://127\.0\.0\.1:1/v1/completions gave no answer"):
        hidden.generate([[5]], GenerationOptions(max_new_tokens=4))


GOOD = {"token_ids": [6, 7], "logprobs": {"token_logprobs": [-1.0, -2.0]}, "finish_reason": "stop"}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"<html>", "answered something that is no JSON: <html>"),
        ([], "prompt 0: the server answered 0 completions where 1 were asked for"),
        (b"[]", "answered no completions"),
        ([GOOD | {"token_ids": None}], "holds no token ids; it must know `return_token_ids`"),
        ([GOOD | {"logprobs": None}], "holds 2 tokens and no log-probabilities"),
        ([GOOD | {"token_ids": [6]}], "holds 1 tokens and 2 log-probabilities"),
        ([GOOD | {"logprobs": {"token_logprobs": [-1.0, float("nan")]}}], "no finite number"),
        ([GOOD | {"finish_reason": "abort"}], "for the reason 'abort'"),
    ],
)
def test_an_answer_that_cannot_be_used_is_an_error(serve, answer, message):
    with pytest.raises(EngineError, match=message):
        engine_of(serve(lambda body, number: answer)).generate([[5]], GenerationOptions(max_new_tokens=4))


def test_one_failure_ends_the_whole_call(serve):
    def behave(body, number):
        return (400, {}, b"no") if body["prompt"] == [1] else counting_up(body)

    server = serve(behave)
    with pytest.raises(EngineError, match="refused"):
        engine_of(server, concurrency=1).generate([[1]] + [[2]] * 50, GenerationOptions(max_new_tokens=4))
    assert len(server.requests) < 51


def test_weights_reach_the_server_through_publish_or_not_at_all(serve):
    published = []
    server = serve()
    model = SimpleNamespace(config=SimpleNamespace(vocab_size=5))
    engine = engine_of(server, publish=published.append)
    engine.update(model)
    assert published == [model]
    with pytest.raises(EngineError, match="outside the vocabulary of 5"):
        engine.generate([[5]], GenerationOptions(max_new_tokens=1))
    with pytest.raises(EngineError, match="weights it was started with; pass publish=FUNCTION"):
        engine_of(server).update("a model")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HttpEngine("localhost:8000", model="m"), "`url` must be an address that begins with http"),
        (lambda: HttpEngine("http://a", model="m", concurrency=0), "`concurrency` must be >= 1"),
        (
            lambda: HttpEngine("http://a", model="m").generate([[1], []], GenerationOptions(max_new_tokens=1)),
            "prompt 1 is empty",
        ),
    ],
)
def test_bad_input_is_refused_before_any_request(make, message):
    with pytest.raises(ValueError, match=message):
        make()
