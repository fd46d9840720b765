from __future__ import annotations

import gzip
import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from easydata_sources import DataError, JsonShardedSource, ParquetShardedSource, RetryPolicy

AT_ONCE = RetryPolicy(first_delay=0)
ROWS = [{"id": i, "text": "x" * 200} for i in range(5_000)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.jsonl.gz"])
@pytest.mark.parametrize("fail_at", [{1}, {2, 3}, {4}, {3, 5, 6}])
def test_a_failed_read_goes_on_where_it_was(name: str, fail_at: set[int], bucket: Any) -> None:
    content = json.dumps(ROWS).encode() if name == "a.json" else "\n".join(map(json.dumps, ROWS)).encode()
    bucket.files[f"c/{name}"] = gzip.compress(content) if name.endswith(".gz") else content
    source = JsonShardedSource(f"bucket://c/{name}", retries=AT_ONCE)
    bucket.fail_at_reads = fail_at
    assert list(source) == ROWS
    assert len(source) == len(ROWS)


@pytest.mark.parametrize("fail_at", [{1}, {2}, {3, 4}, {5}])
def test_parquet_reads_are_retried(fail_at: set[int], bucket: Any) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), sink, row_group_size=700)
    bucket.files["c/a.parquet"] = sink.getvalue()
    bucket.fail_at_reads = fail_at
    assert list(ParquetShardedSource("bucket://c/a.parquet", retries=AT_ONCE)) == ROWS
    bucket.fail_at_reads = {bucket.reads + 1, bucket.reads + 5}
    shuffled = ParquetShardedSource("bucket://c/a.parquet", retries=AT_ONCE).shuffle(1)
    assert sorted(row["id"] for row in shuffled) == list(range(5_000))


def test_after_the_last_try_the_failure_is_raised(bucket: Any) -> None:
    bucket.files["c/a.jsonl"] = b'{"id": 1}'
    source = JsonShardedSource("bucket://c/a.jsonl", retries=RetryPolicy(attempts=3, first_delay=0))
    bucket.fail_at_reads = set(range(1, 100))
    with pytest.raises(OSError, match="connection reset"):
        list(source.rows())
    assert bucket.reads == 3


def test_a_file_that_is_gone_is_not_asked_for_again(bucket: Any) -> None:
    with pytest.raises(FileNotFoundError, match="credentials"):
        JsonShardedSource("bucket://c/a.jsonl")


def test_impossible_policies_are_refused() -> None:
    with pytest.raises(DataError, match="attempts >= 1"):
        RetryPolicy(attempts=0)
