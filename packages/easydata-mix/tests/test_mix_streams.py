"""Mixtures of streaming Hugging Face data sets: their own orders, epochs and failures."""

import json
from collections import Counter
from itertools import islice

import datasets
import pytest
from easydata_mix import MixedShardedSource
from easydata_sources import DataError, HFDatasetShardedSource

COUNT = 300


def stream_of():
    return datasets.Dataset.from_list([{"id": i} for i in range(COUNT)]).to_iterable_dataset(num_shards=3)


def seeded():
    return HFDatasetShardedSource(stream_of().shuffle(seed=3, buffer_size=50))


def ids(rows):
    return [row["id"] for row in rows]


def test_every_pass_of_a_restarted_mixture_over_a_seeded_stream_has_an_order_of_its_own():
    mixed = MixedShardedSource({"a": seeded()})
    passes = [tuple(ids(islice(mixed.rows(), number * COUNT, (number + 1) * COUNT))) for number in range(3)]
    assert len(set(passes)) == 3
    assert all(sorted(rows) == list(range(COUNT)) for rows in passes)
    stream = mixed.rows()
    assert stream.skip(COUNT + 17) == COUNT + 17
    assert ids(islice(MixedShardedSource({"a": seeded()}).rows(stream.state()), 50)) == list(passes[1][17:67])


def test_every_epoch_of_a_mixture_of_seeded_streams_has_an_order_of_its_own():
    def build():
        return MixedShardedSource({"a": seeded(), "b": [{"id": -n} for n in range(1, 40)]}, stop="all_exhausted")

    for views in ([build().at_epoch(n) for n in range(3)], [build().shuffle(1, n, window_rows=8) for n in range(3)]):
        orders = [tuple(ids(view)) for view in views]
        assert len(set(orders)) == 3
        assert len({tuple(sorted(order)) for order in orders}) == 1
        stream = views[2].rows()
        head = ids(islice(stream, 111))
        assert head + ids(views[2].rows(json.loads(json.dumps(stream.state())))) == list(orders[2])


def test_a_mixture_with_a_stream_shuffled_without_a_seed_is_neither_shared_nor_resumed_elsewhere():
    def build():
        return MixedShardedSource({"a": stream_of().shuffle(buffer_size=50), "b": [{"id": -1}]}, stop="all_exhausted")

    mixed = build()
    assert not mixed.has_repeatable_order
    with pytest.raises(DataError, match="cannot be shared by 3 hosts"):
        mixed.shard(0, 3)
    stream = mixed.rows()
    head = ids(islice(stream, 200))
    assert Counter(head + ids(mixed.rows(stream.state()))) == Counter(ids(mixed))
    with pytest.raises(DataError, match="without a seed"):
        list(build().rows(stream.state()))


@pytest.mark.parametrize("columns", [False, True])
def test_a_failing_stream_in_a_mixture_loses_no_row(columns):
    failures = [OSError("gone"), OSError("gone")]

    def flaky(row):
        if row["id"] == 150 and failures:
            raise failures.pop()
        return row

    mixed = MixedShardedSource(
        {"a": HFDatasetShardedSource(stream_of()).map(flaky), "b": [{"id": -n} for n in range(1, 90)]},
        stop="all_exhausted",
    )
    stream = mixed.batches(64) if columns else mixed.rows()
    seen = []
    while True:
        try:
            for item in stream:
                seen += item.to_pylist() if columns else [item]
        except OSError:
            continue
        break
    assert not failures
    assert Counter(ids(seen)) == Counter([*range(COUNT), *range(-89, 0)])
