"""Files of a web server on this machine, with and without reads from the middle."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from easydata_sources import DataFilesNotFoundError, DataUnreachableError, RetryPolicy, as_sharded_source
from easydata_sources.formats.jsonl import JsonShardedSource

ROWS = [{"id": i, "text": "x" * 40} for i in range(3_000)]


def parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), sink, row_group_size=500)
    return sink.getvalue()


FILES = {"/a.jsonl": "\n".join(map(json.dumps, ROWS)).encode(), "/a.parquet": parquet()}


class Handler(BaseHTTPRequestHandler):
    ranges = True
    break_off: list[int]

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        data = FILES.get(self.path)
        if data is None:
            self.send_error(404)
            return
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")) if self.ranges else None
        start, stop = (int(wanted[1]), min(int(wanted[2]) + 1, len(data))) if wanted else (0, len(data))
        self.send_response(206 if wanted else 200)
        if self.ranges:
            self.send_header("Accept-Ranges", "bytes")
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        if body:
            part = data[start:stop]
            self.wfile.write(part[: len(part) // 2] if self.break_off and self.break_off.pop() else part)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(params=[True, False], ids=["ranges", "no_ranges"])
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, type[Handler]]]:
    handler = type("Served", (Handler,), {"ranges": request.param, "break_off": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", handler
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_files_of_a_web_server_are_read_resumed_and_shuffled(name: str, server: tuple[str, type[Handler]]) -> None:
    source = as_sharded_source(f"{server[0]}/{name}")
    stream = source.rows()
    assert [next(stream) for _ in range(2_000)] == ROWS[:2_000]
    assert list(source.rows(stream.state())) == ROWS[2_000:]
    assert len(source) == len(ROWS)
    assert sorted(row["id"] for row in source.shuffle(1)) == list(range(3_000))


def test_an_answer_that_breaks_off_is_asked_for_again(server: tuple[str, type[Handler]]) -> None:
    url, handler = server
    source = JsonShardedSource(f"{url}/a.jsonl", retries=RetryPolicy(first_delay=0))
    handler.break_off = [True]
    assert list(source.rows()) == ROWS


def test_a_missing_file_of_a_web_server_is_refused(server: tuple[str, type[Handler]]) -> None:
    with pytest.raises(DataFilesNotFoundError, match=r"no file 'http://.*/none\.jsonl'"):
        as_sharded_source(f"{server[0]}/none.jsonl")


def test_a_server_may_take_any_time_for_an_answer_but_not_say_nothing(monkeypatch):
    pytest.importorskip("aiohttp")
    from easydata_sources.storage import web_client

    timeout = web_client.web_options({})["client_kwargs"]["timeout"]
    assert (timeout.total, timeout.sock_read) == (None, web_client.LONGEST_SILENCE)
    asked_for = web_client.web_options({"client_kwargs": {"timeout": 5}})
    assert asked_for["client_kwargs"]["timeout"] == 5

    over = threading.Event()

    class Silent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            over.wait(30)

        do_HEAD = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Silent)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(web_client, "LONGEST_SILENCE", 0.1)
    address = f"http://127.0.0.1:{server.server_port}/silent.jsonl"
    with pytest.raises(DataUnreachableError, match=r"silent\.jsonl"):
        list(JsonShardedSource(address, retries=RetryPolicy(attempts=2, first_delay=0.01)).rows())
    over.set()
    server.shutdown()
    server.server_close()
