"""The rows of epochs: orders of the source's own, limits of endless mixtures, streams that one process can read."""

import json
from itertools import islice

import datasets
import jax
import pandas as pd
import pytest
from easydata_mix import MixedShardedSource
from easydata_sources import CountingTransform, DataError, DataReport, as_sharded_source
from easydel_trainers.data.epochs import EpochRows

COUNT = 120


class Same(CountingTransform):
    """The rows as they are."""

    def __init__(self):
        self.report = DataReport()

    def transform_batch(self, rows):
        self.report.saw(len(rows))
        return [[row] for row in rows]


def epoch_rows(dataset, epochs, state=None, shuffle_seed=None, exchange=None):
    source = as_sharded_source(dataset)
    return EpochRows(source, Same(), epochs=epochs, shuffle_seed=shuffle_seed, state=state, exchange=exchange)


def ids(rows):
    return [row["id"] for row in rows]


def stream(**shuffle):
    plain = datasets.Dataset.from_list([{"id": i} for i in range(COUNT)]).to_iterable_dataset(num_shards=3)
    return plain.shuffle(buffer_size=20, **shuffle) if shuffle else plain


@pytest.mark.parametrize("shuffle_seed", [None, 5])
@pytest.mark.parametrize("first", [0, 2])
def test_every_epoch_of_a_seeded_stream_has_an_order_of_its_own(shuffle_seed, first):
    def dataset():
        made = stream(seed=1)
        made.set_epoch(first)
        return made

    rows = ids(epoch_rows(dataset(), 3, shuffle_seed=shuffle_seed))
    epochs = [rows[start : start + COUNT] for start in range(0, 3 * COUNT, COUNT)]
    assert len(set(map(tuple, epochs))) == 3
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
    if shuffle_seed is None:  # as the library itself orders them
        for number, epoch in enumerate(epochs):
            own = dataset()
            own.set_epoch(first + number)
            assert epoch == ids(own)
    for k in (0, 50, COUNT, COUNT + 7, 3 * COUNT - 1):
        begun = epoch_rows(dataset(), 3, shuffle_seed=shuffle_seed)
        assert ids(islice(begun, k)) == rows[:k]
        state = json.loads(json.dumps(begun.state()))
        assert ids(epoch_rows(dataset(), 3, state, shuffle_seed=shuffle_seed)) == rows[k:]


def test_a_stream_that_is_not_shuffled_keeps_its_order_over_epochs():
    assert ids(epoch_rows(stream(), 2)) == [*range(COUNT)] * 2


def test_a_stream_shuffled_without_a_seed_is_not_resumed_by_another_process_and_not_shared(monkeypatch):
    begun = epoch_rows(stream(seed=None), 1)
    head = ids(islice(begun, 40))
    assert len(set(head)) == 40
    with pytest.raises(DataError, match=r"without a seed(.|\n)*repeat rows and lose others"):
        ids(epoch_rows(stream(seed=None), 1, begun.state()))
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for shuffle_seed in (None, 3):
        with pytest.raises(DataError, match="cannot be shared by 2 processes"):
            epoch_rows(stream(seed=None), 1, shuffle_seed=shuffle_seed, exchange=object())


def test_an_epoch_of_a_limited_endless_mixture_has_as_many_rows_as_the_limit():
    mixture = MixedShardedSource({"a": [{"id": n} for n in range(10)], "b": [{"id": n} for n in range(10, 17)]})
    for shuffle_seed in (None, 1):
        assert len(ids(epoch_rows(mixture.limit(300), 2, shuffle_seed=shuffle_seed))) == 600
        assert len(ids(epoch_rows(mixture.limit(300), 0.5, shuffle_seed=shuffle_seed))) == 150
    assert len(ids(epoch_rows(mixture, 2))) == 34  # an epoch of an endless one is all its rows once


class OwnRows:
    """The exchange of a process that is alone."""

    def swap(self, own):
        return [own]


def test_an_endless_mixture_goes_on_behind_its_epoch_whoever_prepares_the_rows():
    mixture = MixedShardedSource(
        {"a": [{"id": n} for n in range(10)], "b": [{"id": n} for n in range(10, 17)]}, {"a": 3, "b": 1}
    )
    expected = ids(islice(mixture.rows(), 3 * 17))
    assert expected[17:34] != expected[:17]
    assert ids(epoch_rows(mixture, 3)) == expected
    assert ids(epoch_rows(mixture, 3, exchange=OwnRows())) == expected


def test_an_epoch_of_a_data_frame():
    assert sorted(ids(epoch_rows(pd.DataFrame({"id": range(9)}), 2, shuffle_seed=1))) == sorted([*range(9)] * 2)
