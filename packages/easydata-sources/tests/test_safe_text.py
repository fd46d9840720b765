"""What leaves as text holds no secret, moves no cursor, and fits a screen."""

import json
import pickle
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from easydata_sources import JsonShardedSource
from easydata_sources.bad_rows.quarantine import Quarantine
from easydata_sources.errors import DataAccessError, DataError, DataFormatError
from easydata_sources.safe_text import printable, readable, without_secrets, without_secrets_of_addresses
from easydata_sources.storage.retry import RetryPolicy

SECRET = "hidden-5c1f"


@pytest.mark.parametrize(
    "text",
    [
        "https://user:hidden-5c1f@host/a.jsonl",
        "https://hidden-5c1f@host/a.jsonl",
        "https://user:pa@hidden-5c1f@host/a",
        "s3://host/a?X-Amz-Credential=AK%2F2026&X-Amz-Signature=hidden-5c1f",
        "https://host/a?sv=1&sig=hidden-5c1f#part",
        "https://host/a?token=hidden-5c1f",
        "https://host/a?x=1&amp;api_key=hidden-5c1f&amp;y=2",
        "https://host/a?key=hidden-5c1f",
        "AccountName=me;AccountKey=hidden-5c1f;EndpointSuffix=x",
        "Authorization: Bearer hidden-5c1f",
    ],
)
def test_secrets_of_addresses_are_hidden(text):
    assert SECRET not in without_secrets(text)
    assert SECRET not in readable(f"cannot read {text!r}: no")
    assert text.split(SECRET)[0][:5] == without_secrets(text)[:5], "the rest says what is meant"


def test_secrets_of_the_environment_are_hidden_and_ordinary_variables_are_not(monkeypatch):
    monkeypatch.setenv("MY_HF_TOKEN", SECRET)
    monkeypatch.setenv("EDITOR_NAME", "an-ordinary-word")
    assert without_secrets(f"found {SECRET} and an-ordinary-word") == "found … and an-ordinary-word"


@pytest.mark.parametrize("token", ["hf_abcdefghijklm", "sk-proj-abcdefghijklmnop", "AKIAABCDEFGHIJKLMNOP"])
def test_tokens_of_known_forms_are_hidden(token):
    assert without_secrets(f"token {token} refused") == "token … refused"


@pytest.mark.parametrize("text", ["https://host/a.jsonl?part=3&page=7", "a = b", "me@host", "user: key"])
def test_what_is_no_secret_stays(text):
    assert without_secrets(text) == text


def test_an_address_signed_anew_has_the_same_name():
    first, second = (f"https://host/a?X-Amz-Date={day}&X-Amz-Signature={day}x" for day in (1, 2))
    assert without_secrets_of_addresses(first) == without_secrets_of_addresses(second) == "https://host/a?…"


@pytest.mark.parametrize("text", ["\x1b[2J", "\x07", "\x9b1m", "\u2028", "\u202e", "\u2066", "\ud800", "\r", "\x7f"])
def test_control_characters_are_escaped(text):
    assert printable(text).isprintable()
    assert printable(text) != text


def test_ordinary_text_stays_as_it_is():
    text = "Grüße, 你好, 👩‍👩‍👧\n\tनमस्ते"
    assert printable(text) == text


def test_an_error_fits_a_screen_and_survives_pickling():
    error = DataFormatError(
        "x" * 100_000, file="https://u:hidden-5c1f@h/\x1b[2J", found="line\n" * 5000, mend="do this"
    )
    for one in (error, pickle.loads(pickle.dumps(error))):
        text = str(one)
        assert len(text) < 4000
        assert len(text.splitlines()) < 40
        assert SECRET not in text
        assert "\x1b" not in text
        assert text.endswith("mend: do this")


def test_the_quarantine_names_files_without_their_secrets(tmp_path):
    path = tmp_path / "bad.jsonl"
    error = DataFormatError("broken", file=f"https://u:{SECRET}@host/a?sig={SECRET}", row=3)
    for _ in range(2):
        Quarantine(str(path)).add(error, reason="broken_json", content="{")
    assert SECRET not in path.read_text()
    assert len(path.read_text().splitlines()) == 1, "known again by the next run"
    assert json.loads(path.read_text())["file"] == "https://…@host/a?sig=…"


class Web:
    """Serves one file, or redirects to another address; keeps the headers that it was sent."""

    def __init__(self, *, target=None, status=None):
        web = self
        self.headers = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                web.headers.append(dict(self.headers))
                content = b'{"text": "a"}\n'
                self.send_response(status or (200 if target is None else 302))
                self.send_header("Content-Length", str(len(content)))
                if target is not None:
                    self.send_header("Location", target)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(content)

            do_HEAD = do_GET

            def log_message(self, *arguments):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/a.jsonl"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self._http.shutdown()
        self._http.server_close()


def test_keys_in_headers_follow_no_redirect_to_another_host():
    pytest.importorskip("aiohttp")
    other = Web()
    first = Web(target=other.url.replace("127.0.0.1", "localhost"))
    with pytest.raises(DataAccessError, match="redirects to http://localhost"):
        list(JsonShardedSource(first.url, storage_options={"headers": {"X-API-Key": SECRET}}).rows())
    assert other.headers == []
    assert list(JsonShardedSource(first.url).rows()) == [{"text": "a"}], "without secrets it may be followed"
    assert SECRET in str(first.headers[0])
    for web in (first, other):
        web.close()


def test_a_redirect_that_is_no_address_of_the_web_is_refused_where_secrets_are_sent():
    pytest.importorskip("aiohttp")
    web = Web(target="file:///etc/passwd")
    with pytest.raises(DataAccessError, match="redirects to file:///etc/passwd"):
        list(JsonShardedSource(web.url, storage_options={"headers": {"X-API-Key": SECRET}}).rows())
    web.close()


def test_shards_are_called_without_the_secrets_of_their_address():
    web = Web()
    source = JsonShardedSource(f"{web.url}?sig={SECRET}")
    rows = source.rows()
    assert next(rows) == {"text": "a"}
    assert SECRET not in json.dumps(rows.state()) + str(source.shard_names)
    assert list(source.open_shard(source.shard_names[0])) == [{"text": "a"}]
    web.close()


def test_an_unreachable_address_is_told_without_its_password():
    with pytest.raises((DataError, OSError)) as caught:
        list(JsonShardedSource(f"http://user:{SECRET}@127.0.0.1:9/a.jsonl?sig={SECRET}", retries=None).rows())
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(("status", "kind"), [(401, PermissionError), (403, PermissionError), (500, ConnectionError)])
def test_a_server_that_refuses_is_told_without_what_signs_the_address(status, kind):
    web = Web(status=status)
    with pytest.raises(DataError, match=f"HTTP {status}") as caught:
        list(JsonShardedSource(f"{web.url}?sig={SECRET}", retries=RetryPolicy(attempts=1)).rows())
    assert isinstance(caught.value, kind)
    assert SECRET not in str(caught.value)
    web.close()
