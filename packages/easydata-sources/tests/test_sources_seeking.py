"""Resuming is O(1): measured as bytes read through a file system that counts."""

from __future__ import annotations

import gzip
import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from easydata_sources import (
    ArrowShardedSource,
    CsvShardedSource,
    JsonShardedSource,
    ParquetShardedSource,
    ShardedDataSource,
    TextShardedSource,
)
from easydata_sources.formats import jsonl

ROWS = 40_000
TEXT = "x" * 60


def rows() -> list[dict[str, Any]]:
    return [{"id": i, "text": f"{i} {TEXT}"} for i in range(ROWS)]


def parquet() -> bytes:
    sink = io.BytesIO()
    # Plain pages, so that the file is as large as its rows.
    pq.write_table(pa.Table.from_pylist(rows()), sink, row_group_size=500, compression="none", use_dictionary=False)
    return sink.getvalue()


def arrow() -> bytes:
    sink = io.BytesIO()
    table = pa.Table.from_pylist(rows())
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=500)
    return sink.getvalue()


FILES = {
    "lines.jsonl": (lambda: "\n".join(map(json.dumps, rows())).encode(), JsonShardedSource),
    "array.json": (lambda: json.dumps(rows()).encode(), JsonShardedSource),
    "rows.csv": (
        ("id,text\n" + "".join(f"{r['id']},{r['text']}\n" for r in rows())).encode,
        CsvShardedSource,
    ),
    "rows.txt": (lambda: "".join(r["text"] + "\n" for r in rows()).encode(), TextShardedSource),
    "rows.parquet": (parquet, ParquetShardedSource),
    "rows.arrow": (arrow, ArrowShardedSource),
}


@pytest.fixture(params=FILES)
def source(request: pytest.FixtureRequest, bucket: Any) -> ShardedDataSource:
    write, kind = FILES[request.param]
    bucket.files[f"c/{request.param}"] = write()
    return kind(f"bucket://c/{request.param}")


def test_resuming_near_the_end_reads_only_what_is_near(source: ShardedDataSource, bucket: Any) -> None:
    whole = sum(map(len, bucket.files.values()))
    stream = source.rows()
    stream.skip(ROWS - 10)
    for _ in range(5):
        next(stream)
    state = json.loads(json.dumps(stream.state()))
    fresh = type(source)(source.shard_names)  # type: ignore[call-arg]
    bucket.bytes_read = 0
    assert len(list(fresh.rows(state))) == 5
    assert bucket.bytes_read < whole / 5


@pytest.mark.parametrize("name", ["rows.parquet", "lines.jsonl"])
def test_resuming_a_shuffle_reads_one_window(name: str, bucket: Any) -> None:
    write, kind = FILES[name]
    bucket.files[f"c/{name}"] = write()
    source = kind(f"bucket://c/{name}").shuffle(1, window_rows=1024)
    stream = source.rows()
    stream.skip(ROWS - 1)
    state = stream.state()
    assert state == {"position": ROWS - 1, "rows": ROWS}
    bucket.bytes_read = 0
    assert len(list(source.rows(state))) == 1
    assert bucket.bytes_read < len(bucket.files[f"c/{name}"]) / 8


def test_a_compressed_file_is_decompressed_again_but_not_parsed(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.files["c/rows.jsonl.gz"] = gzip.compress("\n".join(map(json.dumps, rows())).encode(), 1)
    source = JsonShardedSource("bucket://c/rows.jsonl.gz")
    stream = source.rows()
    stream.skip(ROWS - 3)
    next(stream)
    state = stream.state()
    parsed: list[Any] = []
    monkeypatch.setattr(jsonl, "parse_json", lambda line: parsed.append(line) or json.loads(line))
    assert [row["id"] for row in source.rows(state)] == [ROWS - 2, ROWS - 1]
    assert len(parsed) == 2


def test_length_of_json_lines_parses_nothing(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.files["c/rows.jsonl"] = b'{"id": 1}\n\n  \n{"id": 2}\n{"id": 3}'
    monkeypatch.setattr(jsonl, "parse_json", None)
    assert len(JsonShardedSource("bucket://c/rows.jsonl")) == 3


def test_length_of_parquet_reads_only_the_footer(bucket: Any) -> None:
    bucket.files["c/rows.parquet"] = parquet()
    source = ParquetShardedSource("bucket://c/rows.parquet")
    assert len(source) == ROWS
    assert bucket.bytes_read < len(bucket.files["c/rows.parquet"]) / 8


def test_chosen_columns_are_the_only_ones_read(bucket: Any) -> None:
    bucket.files["c/rows.parquet"] = parquet()
    ids = ParquetShardedSource("bucket://c/rows.parquet", columns=["id"])
    assert sum(row["id"] for row in ids) == ROWS * (ROWS - 1) // 2
    assert bucket.bytes_read < len(bucket.files["c/rows.parquet"]) / 3
