"""What every source promises, checked for every class and for compositions of them.

To add a class: write a builder below and give it a line in `CASES`. A builder gets a folder and a number of rows and
returns a function that makes the source anew, as a restarted process would.
"""

from __future__ import annotations

import csv
import gzip
import json
import pickle
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from easydata_sources import (
    ArrowShardedSource,
    BatchTransform,
    CompositeShardedSource,
    CsvShardedSource,
    ExpandTransform,
    HFDatasetShardedSource,
    HuggingFaceShardedSource,
    JsonShardedSource,
    MemoryShardedSource,
    ParquetShardedSource,
    Row,
    ShardedDataSource,
    TextShardedSource,
)

Make = Callable[[], ShardedDataSource]


def rows_of(count: int, start: int = 0) -> list[Row]:
    return [{"id": i, "text": f"row {i} é", "list": [i] * (i % 3)} for i in range(start, start + count)]


def split(rows: list[Row]) -> list[list[Row]]:
    """Three files: a third, none, the rest."""
    third = len(rows) // 3
    return [rows[:third], [], rows[third:]]


def table(rows: list[Row]) -> pa.Table:
    schema = pa.schema([("id", pa.int64()), ("text", pa.string()), ("list", pa.list_(pa.int64()))])
    return pa.Table.from_pylist(rows, schema=schema)


def parquet(folder: Path, count: int) -> Make:
    for number, rows in enumerate(split(rows_of(count))):
        pq.write_table(table(rows), folder / f"{number}.parquet", row_group_size=4)
    return lambda: ParquetShardedSource(f"{folder}/*.parquet")


def parquet_large_groups(folder: Path, count: int) -> Make:
    pq.write_table(table(rows_of(count)), folder / "one.parquet")
    return lambda: ParquetShardedSource(folder, columns=["id", "list"])


def json_lines(folder: Path, count: int) -> Make:
    for number, rows in enumerate(split(rows_of(count))):
        lines = "\n \n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        (folder / f"{number}.jsonl").write_text("\n" + lines + "\n" * number)
    return lambda: JsonShardedSource(folder / "*.jsonl")


def json_array(folder: Path, count: int) -> Make:
    for number, rows in enumerate(split(rows_of(count))):
        (folder / f"{number}.json").write_text(json.dumps(rows, indent=number or None, ensure_ascii=False))
    return lambda: JsonShardedSource(folder)


def json_documents(folder: Path, count: int) -> Make:
    text = "\n".join(json.dumps(row, indent=2) for row in rows_of(count))
    (folder / "documents.json").write_text(text)
    return lambda: JsonShardedSource(folder)


def json_gzip(folder: Path, count: int) -> Make:
    for number, rows in enumerate(split(rows_of(count))):
        (folder / f"{number}.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    return lambda: JsonShardedSource(folder)


def json_zstd(folder: Path, count: int) -> Make:
    for number, rows in enumerate(split(rows_of(count))):
        with pa.CompressedOutputStream(f"{folder}/{number}.json.zst", "zstd") as file:
            file.write(json.dumps(rows).encode())
    return lambda: JsonShardedSource(folder)


def arrow_file(folder: Path, count: int) -> Make:
    for number, rows in enumerate(split(rows_of(count))):
        with pa.ipc.new_file(f"{folder}/{number}.arrow", table([]).schema) as writer:
            writer.write_table(table(rows), max_chunksize=4)
    return lambda: ArrowShardedSource(folder)


def arrow_stream(folder: Path, count: int) -> Make:
    for number, rows in enumerate(split(rows_of(count))):
        with pa.ipc.new_stream(f"{folder}/{number}.arrow", table([]).schema) as writer:
            writer.write_table(table(rows), max_chunksize=4)
    return lambda: ArrowShardedSource(folder)


def csv_files(folder: Path, count: int) -> Make:
    for number, rows in enumerate(split(rows_of(count))):
        with (folder / f"{number}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "text"])
            writer.writerows([row["id"], f'{row["text"]}, "two\nlines"'] for row in rows)
    return lambda: CsvShardedSource(folder)


def text_files(folder: Path, count: int) -> Make:
    for number, rows in enumerate(split(rows_of(count))):
        lines = [row["text"] if row["id"] % 4 else "" for row in rows]
        (folder / f"{number}.txt").write_text("".join(line + "\n" for line in lines))
    return lambda: TextShardedSource(folder)


def memory(folder: Path, count: int) -> Make:
    return lambda: MemoryShardedSource(rows_of(count))


def hf_map_style(folder: Path, count: int) -> Make:
    return lambda: HFDatasetShardedSource(datasets.Dataset.from_list(rows_of(count)))


def hf_selected(folder: Path, count: int) -> Make:
    order = [(7 * index) % count for index in range(count)]  # 7 is coprime to the counts used
    return lambda: HFDatasetShardedSource(datasets.Dataset.from_list(rows_of(count)).select(order))


def hf_streaming(folder: Path, count: int) -> Make:
    return lambda: HFDatasetShardedSource(datasets.Dataset.from_list(rows_of(count)).to_iterable_dataset(num_shards=3))


def hf_generated(folder: Path, count: int) -> Make:
    generate = partial(rows_of, count)
    return lambda: HFDatasetShardedSource(datasets.IterableDataset.from_generator(generate))


def hf_buffered(folder: Path, count: int) -> Make:
    return lambda: HFDatasetShardedSource(
        datasets.Dataset.from_list(rows_of(count)).to_iterable_dataset().shuffle(seed=3, buffer_size=5)
    )


def hf_name(folder: Path, count: int) -> Make:
    # The folder says which file is which split: the library would guess from "test_" in pytest's folder names.
    (folder / "README.md").write_text("---\nconfigs:\n- config_name: default\n  data_files: rows.jsonl\n---\n")
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows_of(count))))
    return lambda: HuggingFaceShardedSource(str(folder), cache_dir=str(folder / "cache"))


class OnlyTheTwoMethods(ShardedDataSource):
    """The least a source can be."""

    def __init__(self, count: int) -> None:
        first, empty, last = split(rows_of(count))
        self._shards = {"first": first, "empty": empty, "last": last}

    @property
    def shard_names(self) -> Sequence[str]:
        return list(self._shards)

    def open_shard(self, name: str) -> Iterator[Row]:
        return iter(self._shards[name])


class TwiceOrNot(ExpandTransform):
    """id % 3 copies of each row."""

    def __call__(self, row: Row) -> Iterator[Row]:
        for copy in range(row["id"] % 3):
            yield {**row, "copy": copy}


class Halves(BatchTransform):
    """Drops every fifth row and splits every second."""

    def transform_batch(self, rows: Sequence[Row]) -> list[list[Row]]:
        return [[] if row["id"] % 5 == 0 else [{"id": row["id"]}] * (1 + row["id"] % 2) for row in rows]


def is_odd(row: Row) -> bool:
    return row["id"] % 2 == 1


def fails_for_every_fifth(row: Row) -> Row:
    if row["id"] % 5 == 0:
        raise KeyError("text")
    return row


def squared(row: Row) -> Row:
    return {"id": row["id"] ** 2}


def wrapped(base: Callable[[Path, int], Make], wrap: Callable[[ShardedDataSource], ShardedDataSource]) -> Any:
    def build(folder: Path, count: int) -> Make:
        make = base(folder, count)
        return lambda: wrap(make())

    return build


def composite(folder: Path, count: int) -> Make:
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    parts = [parquet(folder / "a", count // 2), memory(folder, 3), json_lines(folder / "b", count // 3)]
    return lambda: CompositeShardedSource([make() for make in parts])


CASES: dict[str, Callable[[Path, int], Make]] = {
    "parquet": parquet,
    "parquet_large_groups": parquet_large_groups,
    "json_lines": json_lines,
    "json_array": json_array,
    "json_documents": json_documents,
    "json_gzip": json_gzip,
    "json_zstd": json_zstd,
    "arrow_file": arrow_file,
    "arrow_stream": arrow_stream,
    "csv": csv_files,
    "text": text_files,
    "memory": memory,
    "hf_map_style": hf_map_style,
    "hf_selected": hf_selected,
    "hf_streaming": hf_streaming,
    "hf_generated": hf_generated,
    "hf_buffered": hf_buffered,
    "hf_name": hf_name,
    "only_the_two_methods": lambda folder, count: lambda: OnlyTheTwoMethods(count),
    "composite": composite,
    "map": wrapped(json_lines, lambda source: source.map(squared)),
    "filter": wrapped(parquet, lambda source: source.filter(is_odd)),
    "expand": wrapped(json_lines, lambda source: source.transform(TwiceOrNot())),
    "batch_transform": wrapped(parquet, lambda source: source.transform(Halves())),
    "chained": wrapped(memory, lambda source: source.transform(Halves() >> squared >> TwiceOrNot())),
    "limit": wrapped(parquet, lambda source: source.limit(17)),
    "limit_of_expand": wrapped(memory, lambda source: source.transform(TwiceOrNot()).limit(11)),
    "fields": wrapped(parquet, lambda source: source.select_fields(["id", "text"]).rename_fields({"text": "prompt"})),
    "shuffle_single_rows": wrapped(memory, lambda source: source.shuffle(1)),
    "shuffle_parquet": wrapped(parquet, lambda source: source.shuffle(2, epoch=1, window_rows=6)),
    "shuffle_json_lines": wrapped(json_lines, lambda source: source.shuffle(3)),
    "shuffle_text": wrapped(text_files, lambda source: source.shuffle(3)),
    "shuffle_gzip": wrapped(json_gzip, lambda source: source.shuffle(4, window_rows=5)),
    "shuffle_streaming": wrapped(hf_streaming, lambda source: source.shuffle(5, window_rows=6)),
    "shuffle_composite": wrapped(composite, lambda source: source.shuffle(6, window_rows=4)),
    "shuffle_limit": wrapped(parquet, lambda source: source.limit(13).shuffle(7, window_rows=8)),
    "share": wrapped(parquet, lambda source: source.shard(1, 3, window=2)),
    "share_json_lines": wrapped(json_lines, lambda source: source.shard(0, 2, window=3)),
    "share_of_shuffle": wrapped(json_lines, lambda source: source.shuffle(8).shard(2, 3, window=2)),
    "shuffle_of_share": wrapped(memory, lambda source: source.shard(0, 2, window=3).shuffle(9, window_rows=4)),
    "bad_rows_skipped": wrapped(
        json_lines, lambda source: source.map(fails_for_every_fifth).on_bad_rows("skip", budget=1.0)
    ),
    "four_stages": wrapped(
        composite,
        lambda source: source.shuffle(1, window_rows=5).filter(is_odd).shard(0, 2, window=2).transform(TwiceOrNot()),
    ),
    "five_stages": wrapped(
        json_gzip,
        lambda source: source.transform(Halves()).map(squared).shuffle(1, window_rows=5).limit(9).filter(is_odd),
    ),
}


@pytest.fixture(params=CASES)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    return CASES[request.param](tmp_path, 23)


@pytest.fixture(params=CASES)
def make_large(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    return CASES[request.param](tmp_path, 1109)


def read(stream: Iterator[Row], count: int) -> list[Row]:
    return [next(stream) for _ in range(count)]


def test_resuming_after_k_rows_gives_the_rest_for_every_k(make: Make) -> None:
    rows = list(make().rows())
    assert rows
    for k in range(len(rows) + 1):
        stream = make().rows()
        assert read(stream, k) == rows[:k]
        state = json.loads(json.dumps(stream.state()))
        assert list(make().rows(state)) == rows[k:]


def test_resuming_across_the_borders_of_chunks(make_large: Make) -> None:
    source = make_large()
    rows = list(source.rows())
    for k in (255, 256, 257, 369, 1024, 1025, len(rows)):
        if k <= len(rows):
            stream = source.rows()
            assert stream.skip(k) == k
            again = make_large().rows(stream.state())
            assert list(again) == rows[k:]


def test_resuming_a_resumed_stream(make: Make) -> None:
    rows = list(make().rows())
    seen: list[Row] = []
    state = None
    while len(seen) < len(rows):
        stream = make().rows(state)
        seen += read(stream, min(3, len(rows) - len(seen)))
        state = stream.state()
    assert seen == rows


def test_state_is_small_json_and_not_shared(make: Make) -> None:
    stream = make().rows()
    next(stream)
    state = stream.state()
    text = json.dumps(state)
    assert len(text) < 1500
    rest = list(stream)
    assert json.dumps(state) == text
    assert list(make().rows(state)) == rest


def test_batches_hold_the_same_rows_and_speak_the_same_positions(make: Make) -> None:
    rows = list(make().rows())
    batches = make().batches(5)
    seen: list[Row] = []
    for batch in batches:
        assert 0 < batch.num_rows <= 5
        seen += batch.to_pylist()
        assert list(make().rows(batches.state())) == rows[len(seen) :]
        from_batches = [row for rest in make().batches(4, batches.state()) for row in rest.to_pylist()]
        assert from_batches == [{**row} for row in rows[len(seen) :]]
    assert seen == rows


def test_skip_is_the_same_as_reading(make: Make) -> None:
    rows = list(make().rows())
    for k in {0, 1, min(4, len(rows)), len(rows) - 1, len(rows)}:
        stream = make().rows()
        assert stream.skip(k) == k
        assert list(stream) == rows[k:]
        stream = make().rows()
        read(stream, 1)
        assert stream.skip(k) == min(k, len(rows) - 1)
        assert list(stream) == rows[k + 1 :]
    assert make().rows().skip(len(rows) + 5) == len(rows)


def test_a_position_depends_on_the_rows_before_it_alone(make: Make) -> None:
    total = sum(1 for _ in make().rows())
    for k in range(1, total + 1):
        assert_one_position(make, k, (k - 1, 1, k // 2))


def test_a_position_beyond_the_borders_of_chunks_depends_on_the_rows_before_it_alone(
    make_large: Make, request: pytest.FixtureRequest
) -> None:
    if "streaming" in request.node.name:
        pytest.skip("`datasets` words the state of a stream that was restored in another way; it leads to the same row")
    total = sum(1 for _ in make_large().rows())
    for k in (256, 257, 369, 370, 1024, 1025, total):
        if k <= total:
            assert_one_position(make_large, k, (0, 5, 300, k - 1))


def assert_one_position(make: Make, k: int, ways: Sequence[int]) -> None:
    """However a stream came to row k, whether reading, stepping over or resuming, it must say the same."""
    reading = make().rows()
    read(reading, k)
    expected = reading.state()
    batches = make().batches(k)
    if next(batches).num_rows == k:  # fewer at the border of two sources
        assert batches.state() == expected
    for first in {way for way in ways if way <= k}:
        skipping = make().rows()
        assert skipping.skip(first) == first
        middle = skipping.state()
        read(skipping, k - first)
        assert skipping.state() == expected
        resumed = make().rows(middle)
        assert resumed.skip(k - first) == k - first
        assert resumed.state() == expected


def test_opening_a_shard_at_a_row_gives_the_rest_of_it(make: Make) -> None:
    source = make()
    assert len(set(source.shard_names)) == source.num_shards()
    joined: list[Row] = []
    for name in source.shard_names:
        rows = list(source.open_shard(name))
        joined += rows
        for row in {0, 1, 3, len(rows) // 2, len(rows)}:
            assert list(source.open_shard_at_row(name, row)) == rows[row:]
    assert joined == list(source.rows())


def test_two_streams_of_one_source_do_not_disturb_each_other(make: Make) -> None:
    source = make()
    rows = list(source.rows())
    first, second = source.rows(), source.rows()
    read(first, 2)
    assert list(second) == rows
    assert list(first) == rows[2:]


def test_length_is_the_number_of_rows_or_unknown(make: Make) -> None:
    source = make()
    try:
        length = len(source)
    except TypeError as error:
        length, message = None, str(error)
    if length is None:
        assert "max_training_steps" in message
    else:
        assert length == sum(1 for _ in source)


def test_an_exhausted_stream_stays_exhausted(make: Make) -> None:
    stream = make().rows()
    for _ in stream:
        pass
    assert next(stream, None) is None
    assert next(stream, None) is None
    assert list(make().rows(stream.state())) == []


def test_blocks_hold_every_row_once_and_know_their_place(make: Make) -> None:
    source = make()
    access = source.access()
    if access is None:
        return
    rows: list[Row] = []
    for block, length in enumerate(access.block_rows):
        run = access.read(block)
        dicts = run if isinstance(run, list) else run.to_pylist()
        assert len(dicts) == length
        if length:
            shard, row = access.origin(block, length - 1)
            if shard in source.shard_names:
                assert next(source.open_shard_at_row(shard, row or 0)) == dicts[-1]
        rows += dicts
    assert rows == list(source.rows())


def test_sources_can_be_pickled(make: Make) -> None:
    source = make()
    rows = list(source)
    assert list(pickle.loads(pickle.dumps(source))) == rows
