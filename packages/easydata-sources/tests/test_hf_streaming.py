"""Streaming Hugging Face data sets: whose order it is, epochs, resuming, sharing, and failures on the way."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import datasets
import pytest
from easydata_sources import (
    BatchTransform,
    CompositeShardedSource,
    DataError,
    DataFormatError,
    HFDatasetShardedSource,
    MemoryShardedSource,
    Row,
    ShardedDataSource,
)

COUNT = 600


def stream_of(count: int = COUNT, shards: int = 3) -> datasets.IterableDataset:
    return datasets.Dataset.from_list([{"id": i} for i in range(count)]).to_iterable_dataset(num_shards=shards)


def ids(rows: Any) -> list[int]:
    return [row["id"] for row in rows]


def seeded(epoch: int = 0) -> HFDatasetShardedSource:
    dataset = stream_of().shuffle(seed=3, buffer_size=50)
    dataset.set_epoch(epoch)
    return HFDatasetShardedSource(dataset)


def unseeded() -> HFDatasetShardedSource:
    return HFDatasetShardedSource(stream_of().shuffle(buffer_size=50))


def interleaved(seed: int | None) -> HFDatasetShardedSource:
    parts = [stream_of(300), stream_of(300)]
    mixed = datasets.interleave_datasets(parts, probabilities=[0.5, 0.5], seed=seed)  # type: ignore[type-var]
    return HFDatasetShardedSource(mixed)


def wrapped(source: ShardedDataSource) -> list[ShardedDataSource]:
    return [
        source,
        source.map(dict),
        source.limit(500),
        source.shuffle(1, window_rows=8),
        source.on_bad_rows("skip"),
        CompositeShardedSource([MemoryShardedSource([{"id": -1}]), source]),
    ]


def test_an_order_without_a_seed_is_said_and_neither_shared_nor_resumed_elsewhere(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for build in (unseeded, lambda: interleaved(None)):
        with caplog.at_level(logging.WARNING):
            source = build()
        assert "shuffled without a seed" in caplog.text
        caplog.clear()
        for view in wrapped(source):
            with pytest.raises(DataError, match=r"cannot be shared by 2 hosts(.|\n)*mend"):
                view.shard(0, 2)
        for view, anew in zip(wrapped(source), wrapped(build()), strict=True):
            stream = view.rows()
            read = list(islice(stream, 300))
            state = json.loads(json.dumps(stream.state()))
            assert Counter(ids(read + list(view.rows(state)))) == Counter(ids(view))  # in this process it is known
            with pytest.raises(DataError, match=r"without a seed(.|\n)*repeat rows(.|\n)*mend"):
                list(anew.rows(state))


def test_an_order_with_a_seed_is_shared_and_resumed_anywhere() -> None:
    for build in (seeded, lambda: interleaved(7)):
        whole = ids(build())
        assert build().has_repeatable_order
        stream = build().rows()
        assert ids(islice(stream, 301)) == whole[:301]
        assert ids(build().rows(json.loads(json.dumps(stream.state())))) == whole[301:]
        shares = [ids(build().shard(index, 2, window=16)) for index in range(2)]
        assert Counter(shares[0] + shares[1]) == Counter(whole)
    other = HFDatasetShardedSource(stream_of().shuffle(seed=4, buffer_size=50))
    with pytest.raises(DataError, match="another shuffle, or another seed"):
        other.rows(seeded().rows().state())


def test_the_epoch_set_by_the_user_is_kept_and_goes_into_the_position() -> None:
    dataset = stream_of().shuffle(seed=3, buffer_size=50)
    source = HFDatasetShardedSource(dataset)
    orders = []
    for epoch in range(3):
        dataset.set_epoch(epoch)  # after it was wrapped, as in a loop over epochs
        orders.append(ids(source))
        assert orders[-1] == ids(dataset) == ids(seeded(epoch))
        stream = source.rows()
        assert ids(islice(stream, 70)) == orders[-1][:70]
        assert ids(seeded().rows(stream.state())) == orders[-1][70:]
    assert len({tuple(order) for order in orders}) == 3
    assert all(sorted(order) == list(range(COUNT)) for order in orders)


def test_every_epoch_of_a_seeded_stream_has_an_order_of_its_own_through_whatever_wraps_it() -> None:
    for number in range(6):
        views = [wrapped(seeded())[number].at_epoch(epoch) for epoch in (0, 1, 2, 2**70, 2**70 + 1)]
        assert len({tuple(ids(view)) for view in views}) == len(views)
        assert ids(wrapped(seeded())[number].at_epoch(1)) == ids(views[1])
        stream = views[1].rows()
        head = ids(islice(stream, 333))
        assert head + ids(wrapped(seeded())[number].rows(stream.state())) == ids(views[1])
    assert ids(seeded(1).at_epoch(1)) == ids(seeded(2))  # counted on from the user's


def test_a_stream_that_is_not_shuffled_keeps_its_order_in_every_epoch() -> None:
    source = HFDatasetShardedSource(stream_of())
    assert source.at_epoch(5) is source
    assert source.map(dict).at_epoch(5).limit(3).at_epoch(1).has_repeatable_order
    assert ids(source) == list(range(COUNT))


def test_a_stream_that_repeats_its_rows_without_end_says_so() -> None:
    repeated = HFDatasetShardedSource(stream_of(5, 1).repeat(None).map(dict))
    assert repeated.is_endless
    assert len(repeated.limit(12)) == len(list(repeated.limit(12))) == 12
    with pytest.raises(DataError, match="never ends"):
        CompositeShardedSource([repeated, MemoryShardedSource([{"id": -1}])])
    for bounded in (stream_of(5, 1), stream_of(5, 1).repeat(2), stream_of(5, 1).repeat(None).take(7)):
        source = HFDatasetShardedSource(bounded)
        assert not source.is_endless
        assert len(list(source)) in (5, 10, 7)


class Outage(Exception):
    """An error that no reader of data has heard of."""


class Doubled(BatchTransform):
    """Two copies of each row."""

    def transform_batch(self, rows: Sequence[Row]) -> list[list[Row]]:
        return [[row, row] for row in rows]


FAILURES: dict[int, list[BaseException]] = {}
"""Errors that are still to come, by row."""


def fail_where_told(row: dict[str, int]) -> dict[str, int]:
    left = FAILURES.get(row["id"])
    if left:
        raise left.pop(0)
    return row


def flaky(**failures: list[BaseException]) -> HFDatasetShardedSource:
    FAILURES.clear()
    FAILURES.update({int(name[1:]): errors for name, errors in failures.items()})
    return HFDatasetShardedSource(stream_of().map(fail_where_told), name="flaky")


def rows_until(stream: Iterator[Any], error: type[Exception]) -> list[Any]:
    """The items of a stream up to an error, which must come."""
    seen = []
    try:
        for item in stream:
            seen.append(item)
    except error:
        return seen
    raise AssertionError(f"no {error.__name__} came")


@pytest.mark.parametrize("error", [Outage("gone"), OSError("reset"), RuntimeError("odd"), ZeroDivisionError()])
@pytest.mark.parametrize("at", [0, 17, 255, 256, 300, 512, 599])
def test_after_any_error_the_rows_before_it_are_given_and_reading_goes_on_where_it_failed(
    error: Exception, at: int
) -> None:
    stream = flaky(**{f"n{at}": [error, error]}).rows()
    seen: list[int] = []
    for _ in range(2):
        seen += ids(rows_until(stream, type(error)))
        assert seen == list(range(at))
    state = json.loads(json.dumps(stream.state()))
    assert seen + ids(stream) == list(range(COUNT))
    assert ids(flaky().rows(state)) == list(range(at, COUNT))


def test_a_lasting_error_never_becomes_the_end() -> None:
    stream = flaky(n300=[Outage()] * 9).rows()
    for _ in range(4):
        with pytest.raises(Outage):
            list(stream)
    assert stream.state()["row"] == 300
    with pytest.raises(DataFormatError, match="cannot read on"):
        list(flaky(n3=[KeyError("id")]))


def test_an_interrupt_loses_no_row() -> None:
    stream = flaky(n100=[KeyboardInterrupt()]).rows()
    seen = ids(islice(stream, 0))
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    assert seen + ids(stream) == list(range(COUNT))


def test_batches_transforms_and_shuffles_over_a_failing_stream_lose_no_row() -> None:
    batches = flaky(n300=[Outage()]).batches(64)
    before = [row for batch in rows_until(batches, Outage) for row in batch.to_pylist()]
    assert ids(before) == list(range(300))
    assert ids(flaky().rows(batches.state())) == list(range(300, COUNT))
    assert ids(row for batch in batches for row in batch.to_pylist()) == list(range(300, COUNT))
    for view in (
        lambda source: source.transform(Doubled()),
        lambda source: source.shuffle(1, window_rows=64),
        lambda source: source.shard(0, 2, window=40),
        lambda source: CompositeShardedSource([source, MemoryShardedSource([{"id": -1}])]),
    ):
        whole = ids(view(flaky()))
        stream = view(flaky(n300=[Outage(), Outage()])).rows()
        seen = ids(rows_until(stream, Outage))
        seen += ids(rows_until(stream, Outage))
        state = json.loads(json.dumps(stream.state()))
        assert seen == whole[: len(seen)]
        assert seen + ids(stream) == whole
        assert seen + ids(view(flaky()).rows(state)) == whole
