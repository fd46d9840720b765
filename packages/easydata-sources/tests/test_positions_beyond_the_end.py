"""A position that lies behind the end of what is there is refused: it is one of other data."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from easydata_sources import (
    CompositeShardedSource,
    DataError,
    ExpandTransform,
    HFDatasetShardedSource,
    MemoryShardedSource,
    Row,
    ShardedDataSource,
    TableShardedSource,
    as_sharded_source,
)


def rows_of(count: int) -> list[Row]:
    return [{"id": number, "text": "x" * 50} for number in range(count)]


class Plain(ShardedDataSource):
    """The least a source can be."""

    def __init__(self, count: int) -> None:
        self.count = count

    @property
    def shard_names(self) -> Sequence[str]:
        return ["one"]

    def open_shard(self, name: str) -> Iterator[Row]:
        return iter(rows_of(self.count))


class Twice(ExpandTransform):
    """Two copies of each row."""

    def __call__(self, row: Row) -> list[Row]:
        return [row, row]


def parquet(folder: Path, count: int) -> ShardedDataSource:
    pq.write_table(pa.Table.from_pylist(rows_of(count)), folder / "a.parquet", row_group_size=10)
    return as_sharded_source(folder / "a.parquet")


def arrow(folder: Path, count: int) -> ShardedDataSource:
    table = pa.Table.from_pylist(rows_of(count))
    with pa.ipc.new_file(str(folder / "a.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=10)
    return as_sharded_source(folder / "a.arrow")


def lines(folder: Path, count: int) -> ShardedDataSource:
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_of(count)))
    return as_sharded_source(folder / "a.jsonl")


def zipped(folder: Path, count: int) -> ShardedDataSource:
    (folder / "a.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows_of(count))).encode()))
    return as_sharded_source(folder / "a.jsonl.gz")


def array(folder: Path, count: int) -> ShardedDataSource:
    (folder / "a.json").write_text(json.dumps(rows_of(count)))
    return as_sharded_source(folder / "a.json")


def texts(folder: Path, count: int) -> ShardedDataSource:
    (folder / "a.txt").write_text("".join(f"line {number}\n" for number in range(count)))
    return as_sharded_source(folder / "a.txt")


def table_of_values(folder: Path, count: int) -> ShardedDataSource:
    with (folder / "a.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "text"])
        writer.writeheader()
        writer.writerows(rows_of(count))
    return as_sharded_source(folder / "a.csv")


BUILDERS: dict[str, Callable[[Path, int], ShardedDataSource]] = {
    "parquet": parquet,
    "arrow": arrow,
    "lines": lines,
    "gzip": zipped,
    "array": array,
    "text": texts,
    "csv": table_of_values,
    "memory": lambda folder, count: MemoryShardedSource(rows_of(count)),
    "table": lambda folder, count: TableShardedSource(pa.Table.from_pylist(rows_of(count))),
    "data_set": lambda folder, count: HFDatasetShardedSource(datasets.Dataset.from_list(rows_of(count))),
    "stream": lambda folder, count: HFDatasetShardedSource(
        datasets.Dataset.from_list(rows_of(count)).to_iterable_dataset()
    ),
    "plain": lambda folder, count: Plain(count),
}
VIEWS: dict[str, Callable[[ShardedDataSource], ShardedDataSource]] = {
    "itself": lambda source: source,
    "map": lambda source: source.map(dict),
    "expand": lambda source: source.transform(Twice()),
    "limit": lambda source: source.limit(1000),
    "composite": lambda source: CompositeShardedSource([source]),
    "share": lambda source: source.shard(0, 2, window=7),
    "shuffle": lambda source: source.shuffle(1, window_rows=16),
    "careful": lambda source: source.on_bad_rows("skip"),
}


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("view", VIEWS)
def test_a_shorter_file_is_not_taken_for_read_to_its_end(builder: str, view: str, tmp_path: Path) -> None:
    stream = VIEWS[view](BUILDERS[builder](tmp_path, 40)).rows()
    assert len(list(islice(stream, 17))) == 17
    state = json.loads(json.dumps(stream.state()))
    shorter = VIEWS[view](BUILDERS[builder](tmp_path, 3))
    with pytest.raises(DataError, match=r"(?s)(behind the end of the data|shuffle of 40 rows).*mend: resume with"):
        list(shorter.rows(state))
    if view in ("itself", "map", "limit", "composite"):
        with pytest.raises(DataError, match="behind the end of the data"):
            list(shorter.batches(4, state))
        with pytest.raises(DataError, match="behind the end of the data"):
            shorter.rows(state).skip(1)


@pytest.mark.parametrize("builder", BUILDERS)
def test_the_very_end_is_no_position_beyond_it(builder: str, tmp_path: Path) -> None:
    source = BUILDERS[builder](tmp_path, 17)
    for view in VIEWS.values():
        stream = view(source).rows()
        assert sum(1 for _ in stream) in (17, 34, 10)
        assert list(view(source).rows(stream.state())) == []
        assert view(source).rows(stream.state()).skip(5) == 0


def test_positions_in_sources_and_shards_that_are_gone_are_refused() -> None:
    two = CompositeShardedSource([MemoryShardedSource(rows_of(3)), MemoryShardedSource(rows_of(3))])
    stream = two.rows()
    list(stream)
    for read in (CompositeShardedSource.rows, lambda source, state: source.batches(4, state)):
        with pytest.raises(DataError, match="behind the end"):
            read(CompositeShardedSource([MemoryShardedSource(rows_of(3))]), stream.state())
    with pytest.raises(DataError, match="behind the end"):
        list(Plain(3).rows({"shard": 2, "row": 0}))
