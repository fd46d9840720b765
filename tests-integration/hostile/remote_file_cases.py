"""Data files of servers that lie, break off, stall or change their minds, each on this machine.

Every file is read in order, raising and skipping, and shuffled.
"""

from __future__ import annotations

import gzip
import io
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import aiohttp
import pyarrow as pa
import pyarrow.parquet as pq
from cases import Case
from data_file_cases import lines, read_in_order_and_shuffled, table
from easydata_sources import (
    ArrowShardedSource,
    CsvShardedSource,
    JsonShardedSource,
    ParquetShardedSource,
    RetryPolicy,
    ShardedDataSource,
)

PATIENCE = RetryPolicy(attempts=2, first_delay=0.01)
TIMEOUT = 0.7  # seconds, of one request


def cases() -> Iterator[Case]:
    for file in FILES:
        for behaviour, serve in BEHAVIOURS.items():
            yield Case(f"{file} {behaviour}", _nothing, partial(_read, file, serve))


def _nothing(folder: Path) -> None:
    """The input is the server."""


def _read(file: str, serve: Callable[[_Request, bytes], None], folder: Path) -> None:
    kind, content = FILES[file]
    data = content()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, data, serve, {"requests": 0})) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        options = {"client_kwargs": {"timeout": aiohttp.ClientTimeout(total=TIMEOUT)}}
        read_in_order_and_shuffled(
            kind(f"http://127.0.0.1:{server.server_port}/{file}?part=1", options, retries=PATIENCE)
        )
        server.shutdown()


def _parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(table(), sink, row_group_size=150)
    return sink.getvalue()


def _arrow() -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table().schema) as writer:
        writer.write_table(table(), max_chunksize=90)
    return sink.getvalue().to_pybytes()


FILES: dict[str, tuple[Callable[..., ShardedDataSource], Callable[[], bytes]]] = {
    "a.jsonl": (JsonShardedSource, lines),
    "a.json": (JsonShardedSource, lambda: b"[" + lines().replace(b"\n", b",") + b"]"),
    "a.jsonl.gz": (JsonShardedSource, lambda: gzip.compress(lines())),
    "a.csv": (CsvShardedSource, lambda: b"id,text\n" + b'1,"x"\n' * 600),
    "a.parquet": (ParquetShardedSource, _parquet),
    "a.arrow": (ArrowShardedSource, _arrow),
}


class _Handler(BaseHTTPRequestHandler):
    """A request, and what a server usually does with it."""

    def __init__(self, data: bytes, serve: Callable[..., None], seen: dict[str, int], *arguments) -> None:
        self.data, self.serve, self.seen = data, serve, seen
        super().__init__(*arguments)

    def do_GET(self) -> None:
        self.seen["requests"] += 1
        try:
            self.serve(self, self.data)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_HEAD = do_GET

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def wanted(self, data: bytes) -> tuple[int, int] | None:
        unit, _, span = self.headers.get("Range", "").partition("=")
        first, _, last = span.partition("-")
        if unit != "bytes" or not first.isdigit():
            return None
        return int(first), min(int(last) if last.isdigit() else len(data) - 1, len(data) - 1)

    def answer(
        self,
        data: bytes,
        *,
        status: int | None = None,
        ranges: bool = True,
        length: int | str | None = None,
        told: str | None = None,
        body: bytes | None = None,
        **headers: str,
    ) -> None:
        """Answer as a server does, except for what is said otherwise."""
        wanted = self.wanted(data) if ranges else None
        part = data if wanted is None else data[wanted[0] : wanted[1] + 1]
        part = part if body is None else body
        self.send_response(status or (206 if wanted else 200))
        if ranges:
            self.send_header("Accept-Ranges", "bytes")
        if wanted:
            self.send_header("Content-Range", told or f"bytes {wanted[0]}-{wanted[1]}/{len(data)}")
        self.send_header("Content-Length", str(len(part) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(part)
        self.close_connection = True


_Request = _Handler


def _cut(request: _Request, data: bytes) -> None:
    """Half of what was asked for, then nothing."""
    request.answer(data, length=len(data), body=data[: len(data) // 2])


def _cut_after(count: int, request: _Request, data: bytes) -> None:
    request.answer(data) if request.seen["requests"] <= count else _cut(request, data)


def _failing_after(count: int, status: int, request: _Request, data: bytes) -> None:
    if request.seen["requests"] <= count:
        request.answer(data)
    else:
        request.answer(b"out of order", status=status, ranges=False)


def _stalling(request: _Request, data: bytes) -> None:
    if request.command == "HEAD":
        request.answer(data)
    else:
        time.sleep(TIMEOUT + 1)


def _dripping(request: _Request, data: bytes) -> None:
    request.answer(data, length=len(data), body=b"")
    for byte in data[: 40 if request.command == "GET" else 0]:
        request.wfile.write(bytes([byte]))
        time.sleep(0.1)


def _shrinking(request: _Request, data: bytes) -> None:
    request.answer(data if request.seen["requests"] < 4 else data[: len(data) // 2])


def _growing(request: _Request, data: bytes) -> None:
    request.answer(data if request.seen["requests"] < 4 else data + data)


def _other_content(request: _Request, data: bytes) -> None:
    request.answer(data if request.seen["requests"] < 4 else data[::-1])


def _chunked(piece: bytes, request: _Request, data: bytes) -> None:
    request.protocol_version = "HTTP/1.1"
    request.send_response(200)
    request.send_header("Transfer-Encoding", "chunked")
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(piece.replace(b"SIZE", b"%x" % len(data)).replace(b"DATA", data))
    request.close_connection = True


def _raw(answer: bytes, request: _Request, data: bytes) -> None:
    request.wfile.write(answer)
    request.close_connection = True


def _redirected(where: str, request: _Request, data: bytes) -> None:
    if "moved" in request.path and "again" not in where:
        request.answer(data)
    else:
        request.answer(b"", status=302, ranges=False, Location=where)


BEHAVIOURS: dict[str, Callable[[_Request, bytes], None]] = {
    "sound": lambda request, data: request.answer(data),
    "without ranges": lambda request, data: request.answer(data, ranges=False),
    "cut": _cut,
    "cut after the third request": partial(_cut_after, 3),
    "cut without saying so": lambda request, data: request.answer(data[: len(data) * 2 // 3], ranges=False),
    "with zeros behind": lambda request, data: request.answer(data + bytes(700), ranges=False),
    "not found after listing": partial(_failing_after, 2, 404),
    "forbidden after listing": partial(_failing_after, 2, 403),
    "broken after listing": partial(_failing_after, 2, 500),
    "busy from the start": partial(_failing_after, 0, 503),
    "stalling": _stalling,
    "dripping": _dripping,
    "shrinking": _shrinking,
    "growing": _growing,
    "changing its content": _other_content,
    "ignoring ranges it promised": lambda request, data: request.answer(data, ranges=False, Accept_Ranges="bytes"),
    "giving less than a range": lambda request, data: request.answer(data, body=data[:10]),
    "giving more than a range": lambda request, data: request.answer(data, body=data + data),
    "giving another range": lambda request, data: request.answer(data, told=f"bytes 7-9/{len(data)}"),
    "telling a range of no numbers": lambda request, data: request.answer(data, told="bytes x-y/z"),
    "telling no length": lambda request, data: request.answer(data, length="", ranges=False),
    "telling a length of words": lambda request, data: request.answer(data, length="many"),
    "telling a negative length": lambda request, data: request.answer(data, length=-1),
    "telling a length of zero": lambda request, data: request.answer(data, length=0),
    "telling an enormous length": lambda request, data: request.answer(data, length=10**18),
    "telling another encoding": lambda request, data: request.answer(data, ranges=False, Content_Encoding="gzip"),
    "compressing twice": lambda request, data: request.answer(
        gzip.compress(data), ranges=False, Content_Encoding="gzip"
    ),
    "in chunks": partial(_chunked, b"SIZE\r\nDATA\r\n0\r\n\r\n"),
    "in chunks without end": partial(_chunked, b"SIZE\r\nDATA\r\n"),
    "in chunks of no size": partial(_chunked, b"zz\r\nDATA\r\n0\r\n\r\n"),
    "a page to sign in": lambda request, data: request.answer(b"<html>Sign in</html>" * 100, ranges=False),
    "no answer": partial(_raw, b""),
    "noise for an answer": partial(_raw, b"\x00\xff\x1b[2J" * 100),
    "an endless header": partial(_raw, b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000),
    "odd headers": partial(_raw, b"HTTP/1.1 200 O\x1b[2JK\r\nContent-Length: 5\r\nX\x00: \xff\r\n\r\nhello"),
    "moved": partial(_redirected, "/moved.bin"),
    "moved again and again": partial(_redirected, "/again"),
    "moved to nowhere": partial(_redirected, "http://127.0.0.1:1/x"),
    "moved to a file": partial(_redirected, "file:///etc/passwd"),
}
