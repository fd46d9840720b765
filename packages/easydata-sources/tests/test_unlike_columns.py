"""Files of unlike columns, and columns of rare types: the same rows in any order, and in batches."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from easydata_sources import (
    ArrowShardedSource,
    CompositeShardedSource,
    DataError,
    DataFormatError,
    JsonShardedSource,
    MemoryShardedSource,
    ParquetShardedSource,
    Row,
    ShardedDataSource,
    TableShardedSource,
)

LARGE = 2**60 + 1  # no float holds it


def key(row: Row) -> str:
    return json.dumps(row, sort_keys=True)


def unlike_parquet(folder: Path) -> ShardedDataSource:
    for number, table in enumerate(
        [
            pa.table({"id": [0, 1, LARGE], "x": [1, 2, 3]}),
            pa.table({"id": [3, 4], "x": [0.5, 4.0]}),
            pa.table({"id": [5, 6], "x": ["a", None]}),
            pa.table({"id": [7, 8], "y": [[1], None]}),
            pa.table({"id": [9], "x": pa.nulls(1), "meta": [{"a": 1}]}),
            pa.table({"id": [10, 11], "meta": [{"b": "c"}, None]}),
        ]
    ):
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=2)
    return ParquetShardedSource(folder)


def unlike_lines(folder: Path) -> ShardedDataSource:
    (folder / "a.jsonl").write_text('{"id": 1}\n{"id": 2, "x": null}\n{"id": 3, "x": 1}\n{}\n')
    (folder / "b.jsonl").write_text('{"id": 5, "x": 1.5}\n{"id": 6, "x": {"deep": [1]}}\n{}\n')
    return JsonShardedSource(folder)


def unlike_sources(folder: Path) -> ShardedDataSource:
    return CompositeShardedSource(
        [
            TableShardedSource(pa.table({"id": [1, 2], "x": [1, LARGE]})),
            TableShardedSource(pa.table({"id": [3], "x": [0.5]})),
            MemoryShardedSource([{"id": 4, "z": None}, {}, {"id": 6}]),
        ]
    )


@pytest.mark.parametrize("build", [unlike_parquet, unlike_lines, unlike_sources])
def test_shuffled_rows_are_the_rows_whatever_their_columns(
    build: Callable[[Path], ShardedDataSource], tmp_path: Path
) -> None:
    source = build(tmp_path)
    rows = sorted(map(key, source))
    for window in (2, 4, 1000):
        shuffled = source.shuffle(3, window_rows=window)
        assert sorted(map(key, shuffled)) == rows  # 1 is not 1.0, and no key is added
        stream = shuffled.rows()
        head = [next(stream) for _ in range(4)]
        assert sorted(map(key, head + list(shuffled.rows(stream.state())))) == rows


def test_batches_of_unlike_columns_hold_equal_values_or_say_which_column_cannot() -> None:
    def numbers(first: Any, second: Any) -> ShardedDataSource:
        return CompositeShardedSource([TableShardedSource(pa.table({"x": [value]})) for value in (first, second)])

    for seed in range(3):
        assert sorted(row["x"] for batch in numbers(1, 0.5).shuffle(seed).batches() for row in batch.to_pylist()) == [
            0.5,
            1,
        ]
        for values in ((LARGE, 0.5), (1, "a")):
            with pytest.raises(DataFormatError, match=r"column: x(.|\n)*mend: read dict rows with \.rows\(\)"):
                list(numbers(*values).shuffle(seed).batches())
            assert {str(row["x"]) for row in numbers(*values).shuffle(seed)} == set(map(str, values))
            mended = numbers(*values).map(lambda row: {**row, "x": str(row["x"])}).shuffle(seed)
            assert sum(batch.num_rows for batch in mended.batches()) == 2


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize("shuffled", [False, True])
def test_renaming_over_mixed_layouts_gives_the_same_in_rows_and_batches(
    size: int, shuffled: bool, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"question": ["q1", "q2", "q3"], "id": [1, 2, 3]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"prompt": ["p4", "p5"], "id": [4, 5]}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"prompt": ["p6"], "other": [0], "id": [6]}), tmp_path / "c.parquet")
    source = ParquetShardedSource(tmp_path)
    if shuffled:
        source = source.shuffle(1)
    renamed = source.rename_fields({"question": "prompt"})
    rows = list(renamed)
    assert sorted(row["prompt"] for row in rows) == ["p4", "p5", "p6", "q1", "q2", "q3"]
    batches = renamed.batches(size)
    seen: list[Row] = []
    for batch in batches:
        assert batch.to_pylist() == [
            dict.fromkeys(batch.schema.names) | row for row in rows[len(seen) : len(seen) + batch.num_rows]
        ]
        seen += batch.to_pylist()
        assert list(renamed.rows(batches.state())) == rows[len(seen) :]
    assert len(seen) == 6
    clash = TableShardedSource(pa.table({"question": ["q"], "prompt": ["p"]})).rename_fields({"question": "prompt"})
    for read in (list, lambda source: list(source.batches())):
        with pytest.raises(DataError, match="would overwrite the field prompt"):
            read(clash)


def rare(rows: int) -> pa.Table:
    texts = [f"text {number}" if number % 5 else None for number in range(rows)]
    ends = pa.array(range(2, rows + 1, 2), pa.int32())
    runs = pa.array([f"run {number // 2}" for number in range(0, rows, 2)])
    return pa.table(
        {
            "id": list(range(rows)),
            "view": pa.array(texts, pa.string_view()),
            "bytes": pa.array([text and text.encode() for text in texts], pa.binary_view()),
            "runs": pa.RunEndEncodedArray.from_arrays(ends, runs),
            "views": pa.array([[text] for text in texts], pa.list_(pa.string_view())),
            "struct": pa.array([{"a": text} for text in texts], pa.struct([("a", pa.string_view())])),
            "list_view": pa.array([[number] for number in range(rows)], pa.list_view(pa.int64())),
            "dictionary": pa.array(texts).dictionary_encode(),
        }
    )


@pytest.mark.parametrize("kind", ["file", "stream", "table", "parquet", "limited", "chunks"])
def test_columns_of_views_and_runs_are_shuffled(kind: str, tmp_path: Path) -> None:
    table = rare(40)
    if kind == "parquet":
        table = table.drop_columns(["runs"])  # which Parquet does not have
        pq.write_table(table, tmp_path / "a.parquet")  # one group: Arrow cannot slice lists of views to write them
        source: ShardedDataSource = ParquetShardedSource(tmp_path)
    elif kind in ("table", "limited"):
        source = TableShardedSource(table)
    elif kind == "chunks":
        source = CompositeShardedSource([TableShardedSource(table.slice(0, 10)), TableShardedSource(table.slice(10))])
    else:
        write = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
        with write(str(tmp_path / "a.arrow"), table.schema) as writer:
            writer.write_table(table, max_chunksize=7)
        source = ArrowShardedSource(tmp_path)
    if kind == "limited":
        source = source.limit(40)
    rows = table.to_pylist()
    assert list(source) == rows
    shuffled = source.shuffle(1, window_rows=16)
    by_id = sorted(shuffled, key=lambda row: row["id"])
    assert by_id == rows
    assert list(shuffled) != rows
    batched = [row for batch in shuffled.batches(9) for row in batch.to_pylist()]
    assert batched == list(shuffled)


def test_rows_without_fields_are_rows() -> None:
    pieces: list[list[Row]] = [[{}, {}], [{}], [{}, {"a": 1}, {}]]
    source = CompositeShardedSource([MemoryShardedSource(piece) for piece in pieces])
    for view in (source, source.shuffle(1), source.shuffle(1, window_rows=2)):
        assert sorted(map(key, view)) == ['{"a": 1}', *["{}"] * 5]
        assert sum(batch.num_rows for batch in view.batches(4)) == 6
    tables = [TableShardedSource(pa.table({"a": [1, 2]})), TableShardedSource(pa.table({"a": [3]}))]
    dropped = CompositeShardedSource(tables).drop_fields(["a"])
    assert list(dropped) == [{}] * 3
    assert [batch.num_rows for batch in dropped.shuffle(1).batches(2)] == [2, 1]
