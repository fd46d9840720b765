"""Mixing: decisions alone, rows delivered as dicts and as record batches, beside `datasets.interleave_datasets`."""

from __future__ import annotations

from itertools import islice

import datasets
import pyarrow as pa
from _figure import per_second, quick, show
from easydata_mix import MixedShardedSource
from easydata_sources import HFDatasetShardedSource, ShardedDataSource

TEXT = "a row as long as a short chat message, so that reading it costs something. " * 3


class Endless(ShardedDataSource):
    """A source that is only named: decisions read nothing."""

    @property
    def shard_names(self):
        return ("none",)

    def open_shard(self, name):
        return iter(())


def main() -> None:
    few = quick()
    datasets.disable_progress_bars()
    decisions(100_000 if few else 5_000_000)
    delivery(20_000 if few else 1_000_000)


def decisions(rows: int) -> None:
    sources = {f"source_{index}": Endless() for index in range(50)}
    weights = {name: 1 + index % 7 for index, name in enumerate(sources)}
    for block_size in (1000, 1):
        mixture = MixedShardedSource(sources, weights, block_size=block_size)
        count = rows if block_size > 1 else rows // 10

        def work(mixture: MixedShardedSource = mixture, count: int = count) -> int:
            return sum(map(len, mixture.decisions(count)))

        show(f"decisions, 50 sources, block_size={block_size}", per_second(work), "rows/s", note="aim 1,000,000")


def delivery(rows: int) -> None:
    parts = {f"source_{index}": rows_of(index, rows // 10) for index in range(10)}
    weights = {name: 1 + index % 3 for index, name in enumerate(parts)}
    total = sum(weights.values())
    probabilities = [weight / total for weight in weights.values()]
    theirs = datasets.interleave_datasets(
        list(parts.values()), probabilities, seed=1, stopping_strategy="all_exhausted"
    )
    map_style = per_second(lambda: consume(theirs, rows // 10))
    streams = [part.to_iterable_dataset() for part in parts.values()]
    streaming = datasets.interleave_datasets(streams, probabilities, seed=1, stopping_strategy="all_exhausted")
    streamed = per_second(lambda: consume(streaming, rows // 20))
    show("interleave_datasets, map-style", map_style, "rows/s")
    show("interleave_datasets, streaming", streamed, "rows/s")

    sources = {name: HFDatasetShardedSource(part, name=name) for name, part in parts.items()}
    mixture = MixedShardedSource(sources, weights)
    one = next(iter(sources.values()))
    bare = per_second(lambda: sum(batch.num_rows for batch in one.batches(1024)))
    show("one source alone, record batches", bare, "rows/s")
    batches = per_second(lambda: sum(batch.num_rows for batch in islice(mixture.batches(1024), rows // 1024)))
    show("ours, record batches of 1024", batches, "rows/s", limit=bare, note="aim 500,000; x of one source alone")
    share = mixture.shard(0, 2)
    halved = per_second(lambda: sum(batch.num_rows for batch in islice(share.batches(1024), rows // 4096)))
    show("ours, record batches of one host of two", halved, "rows/s", limit=bare)
    dicts = per_second(lambda: consume(mixture.limit(rows // 10), rows // 10))
    show("ours, dict rows", dicts, "rows/s", limit=map_style, note="x of interleave_datasets, map-style")
    even = MixedShardedSource(sources, weights, block_size=1)
    ones = per_second(lambda: sum(batch.num_rows for batch in islice(even.batches(1024), rows // 4096)))
    show("ours, record batches, block_size=1", ones, "rows/s", limit=bare)
    shuffled = mixture.shuffle(1)
    mixed = per_second(lambda: sum(batch.num_rows for batch in islice(shuffled.batches(1024), rows // 4096)))
    show("ours, record batches, every source shuffled", mixed, "rows/s", limit=bare)


def rows_of(source: int, count: int) -> datasets.Dataset:
    numbers = pa.array(range(count))
    return datasets.Dataset(pa.table({"n": numbers, "text": pa.array([f"{source} {TEXT}"] * count)}))


def consume(rows, count: int) -> int:
    return sum(1 for _ in islice(rows, count))


if __name__ == "__main__":
    main()
