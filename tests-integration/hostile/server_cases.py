"""Servers that misbehave: generation servers with answers of wrong types and ids, and web servers with rows."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cases import ODD_VALUES, SECRET, Case, mutations, short
from easydata_sources import JsonShardedSource
from easydata_sources.storage import web_client
from easydata_sources.storage.retry import RetryPolicy
from easydel_models.generation import GenerationOptions, HttpEngine, Patience

GOOD: Mapping[str, Any] = {
    "index": 0,
    "token_ids": [3, 4],
    "logprobs": {"token_logprobs": [-0.5, -0.25], "tokens": ["token_id:3", "token_id:4"]},
    "finish_reason": "stop",
}
ROWS = b'{"text": "a"}\n{"text": "b"}\n'
Behaviour = Callable[[BaseHTTPRequestHandler], object]
PATIENCE = Patience(timeout=2.0, total_timeout=2.0, max_bytes=1 << 20, retries=1, first_pause=0.01)
RETRIES = RetryPolicy(attempts=2, first_delay=0.01)
web_client.LONGEST_SILENCE = PATIENCE.timeout


def cases() -> Iterator[Case]:
    yield Case("engine: as it should be", _nothing, _engine(_json({"choices": [GOOD]})), accepted=True)
    yield Case("rows: as they should be", _nothing, _rows(_sent(ROWS)), accepted=True)
    for number, value in enumerate(ODD_VALUES):
        named = f"{number} {short(value)}"
        yield Case(f"engine: answer {named}", _nothing, _engine(_json(value)), accepted=False)
        yield Case(f"engine: choices {named}", _nothing, _engine(_json({"choices": value})), accepted=False)
        yield Case(f"engine: a choice {named}", _nothing, _engine(_json({"choices": [value]})), accepted=False)
        for key in GOOD:
            answer = {"choices": [{**GOOD, key: value}]}
            yield Case(f"engine: {key} {named}", _nothing, _engine(_json(answer)))
        for key in ("token_logprobs", "tokens"):
            answer = {"choices": [{**GOOD, "token_ids": None, "logprobs": {**GOOD["logprobs"], key: value}}]}
            yield Case(f"engine: logprobs.{key} {named}", _nothing, _engine(_json(answer)))
        answer = {"choices": [{**GOOD, "token_ids": [3, value]}]}
        yield Case(f"engine: a token {named}", _nothing, _engine(_json(answer)))
        answer = {"choices": [{**GOOD, "logprobs": {"token_logprobs": [-0.5, value]}}]}
        yield Case(f"engine: a log-probability {named}", _nothing, _engine(_json(answer)))
    for number, content in enumerate(mutations(json.dumps({"choices": [GOOD]}).encode(), 60, seed=8)):
        yield Case(f"engine: damaged {number}", _nothing, _engine(_sent(content)))
    for number, content in enumerate(mutations(ROWS, 20, seed=9)):
        yield Case(f"rows: damaged {number}", _nothing, _rows(_sent(content)))
    for token in (-1, 32, 2**31, 2**64):
        answer = {"choices": [{**GOOD, "token_ids": [3, token]}]}
        yield Case(f"engine: the id {token}", _nothing, _engine(_json(answer)), accepted=False)
    long = {"token_ids": [3] * 5, "logprobs": {"token_logprobs": [-0.5] * 5}}
    yield Case("engine: more than asked", _nothing, _engine(_json({"choices": [{**GOOD, **long}]})), accepted=False)
    yield Case("engine: two for one", _nothing, _engine(_json({"choices": [GOOD, GOOD]})), accepted=False)
    for name, behave in BEHAVIOURS.items():
        yield Case(f"engine: {name}", _nothing, _engine(behave), accepted=False)
        # Rows that drip cannot be told from a slow line; how long reading a file may take, nobody says.
        if name != "dripping":
            yield Case(f"rows: {name}", _nothing, _rows(behave), accepted=False)
    for status in (100, 199, 204, 206, 301, 302, 303, 307, 308, 400, 401, 403, 404, 418, 429, 500, 503, 599, 999):
        behave = _sent(f"no: {SECRET} \x1b[2J".encode() * 200, status, Location="http://192.0.2.1/")
        yield Case(f"engine: status {status}", _nothing, _engine(behave), accepted=False)
        if status not in (301, 302, 303, 307, 308):  # a client without keys follows these, and there is no network
            yield Case(f"rows: status {status}", _nothing, _rows(behave))


def _silent(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(60)


def _dripping(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


def _endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"[" * 65536)


def _raw(content: bytes) -> Behaviour:
    return lambda handler: handler.wfile.write(content)


def _sent(content: bytes, status: int = 200, **headers: str) -> Behaviour:
    def behave(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)

    return behave


def _json(value: Any) -> Behaviour:
    sys.set_int_max_str_digits(0)
    try:
        return _sent(json.dumps(value).encode())
    finally:
        sys.set_int_max_str_digits(4300)


BEHAVIOURS: Mapping[str, Behaviour] = {
    "silent": _silent,
    "dripping": _dripping,
    "endless": _endless,
    "nothing": lambda handler: None,
    "no HTTP": _raw(b"hello\r\n\r\n"),
    "a long status line": _raw(b"HTTP/1.1 200 " + b"x" * 100_000 + b"\r\n\r\n"),
    "many headers": _raw(b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(500)) + b"\r\n"),
    "a long header": _raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n"),
    "a wrong length": _raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{}"),
    "a length of text": _raw(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{}"),
    "a negative length": _raw(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}"),
    "bad chunks": _raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n"),
    "a huge chunk": _raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{}\r\n"),
    "deep lists": _sent(b"[" * 500_000),
    "a page": _sent(b"<html><body>\x1b[2J" + b"x" * 10_000),
    "a redirect to a file": _sent(b"", 302, Location="file:///etc/passwd"),
    "a redirect to itself": _sent(b"", 302, Location="/v1/completions"),
    "a redirect with a password": _sent(b"", 302, Location=f"http://u:{SECRET}@127.0.0.1:1/?token={SECRET}"),
    "Retry-After": _sent(b"busy", 429, **{"Retry-After": "\u00b2"}),
}


@contextlib.contextmanager
def _served(behave: Behaviour) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.close_connection = True
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with contextlib.suppress(OSError, UnicodeEncodeError):
                behave(self)

        do_POST = do_HEAD = do_GET

        def log_message(self, *arguments: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"


def _engine(behave: Behaviour) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        with _served(behave) as url:
            engine = HttpEngine(f"{url}/v1", model="m", api_key=SECRET, patience=PATIENCE, vocab_size=32)
            return engine.generate([[1, 2]], GenerationOptions(max_new_tokens=4))

    return read


def _rows(behave: Behaviour) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        with _served(behave) as url:
            options = {"headers": {"X-API-Key": SECRET}}
            address = f"{url}/rows.jsonl?token={SECRET}"
            return list(JsonShardedSource(address, storage_options=options, retries=RETRIES).rows())

    return read


def _nothing(folder: Path) -> None:
    """The input is what the server says."""
