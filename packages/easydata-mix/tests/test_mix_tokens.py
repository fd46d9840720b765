"""Weights as shares of tokens: exact within the longest row, resumable, the same for any number of hosts."""

import json
from collections import Counter
from fractions import Fraction
from itertools import islice

import pyarrow as pa
import pytest
from easydata_mix import MixedShardedSource, MixtureError, WeightSchedulePoint, WeightScheduler
from easydata_mix.plan.token_quotas import token_quotas
from easydata_sources import MemoryShardedSource
from hypothesis import given, settings
from hypothesis import strategies as st


class Tokenized(MemoryShardedSource):
    """Rows of known lengths."""

    def __init__(self, name, lengths):
        super().__init__([{"name": name, "n": n, "input_ids": [7] * length} for n, length in enumerate(lengths)], name)
        self.lengths = lengths

    def token_lengths(self):
        import numpy as np

        return np.array(self.lengths, np.uint32)


LENGTHS = {"short": [1, 2, 3, 1, 2], "long": [90, 40, 70], "middle": [10, 11, 12, 9]}


def mixture(weights=(1, 1, 2), **options):
    sources = {name: Tokenized(name, lengths) for name, lengths in LENGTHS.items()}
    return MixedShardedSource(sources, list(weights), weight_by="token", **{"block_size": 10, "seed": 3} | options)


def tokens_of(rows):
    counts = Counter()
    for row in rows:
        counts[row["name"]] += len(row["input_ids"])
    return counts


@pytest.mark.parametrize("block_size", [1, 10, 64])
def test_every_block_boundary_is_within_the_longest_row(block_size):
    rows = list(islice(mixture(block_size=block_size).rows(), 1920))
    for end in range(block_size, len(rows) + 1, block_size):
        tokens = tokens_of(rows[:end])
        for name, share in {"short": 0.25, "long": 0.25, "middle": 0.5}.items():
            assert abs(tokens[name] - share * tokens.total()) <= 90
    by_rows = Counter(row["name"] for row in rows)
    assert by_rows["short"] > 20 * by_rows["long"]  # of short rows it takes many


@settings(max_examples=200, deadline=None)
@given(
    shares=st.lists(st.integers(0, 20), min_size=1, max_size=6).filter(any),
    data=st.data(),
)
def test_no_credit_is_ever_more_than_the_longest_row(shares, data):
    lengths = [data.draw(st.lists(st.integers(0, 100), min_size=1, max_size=9)) for _ in shares]
    given, credit = [0] * len(shares), (Fraction(0),) * len(shares)
    longest = max(map(max, lengths))
    for rows in data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=12)):

        def upcoming(source, index, given=given):
            return lengths[source][(given[source] + index) % len(lengths[source])]

        planned = token_quotas(shares, credit, rows, upcoming)
        assert sum(planned.quotas) == rows
        assert sum(planned.credit) == 0
        assert all(abs(part) <= longest for part in planned.credit)
        assert all(part == 0 for part, share in zip(planned.credit, shares, strict=True) if not share)
        given, credit = [a + b for a, b in zip(given, planned.quotas, strict=True)], planned.credit


@pytest.mark.parametrize("stop", ["restart", "first_exhausted", "all_exhausted"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_resuming_at_any_row_gives_the_rest(stop, shuffled):
    def build():
        mixed = mixture(stop=stop)
        mixed.edit_weights({"short": 5, "long": 1, "middle": 1}, from_row=25)
        return mixed.shuffle(1) if shuffled else mixed

    whole = list(islice(build().rows(), 60))
    stream = build().rows()
    for k in range(len(whole)):
        state = json.loads(json.dumps(stream.state()))
        assert list(islice(mixture_like(shuffled, stop).rows(state), len(whole) - k)) == whole[k:]
        skipping = build().rows()
        assert skipping.skip(k) == k
        assert skipping.state() == state
        assert next(skipping) == whole[k]
        assert next(stream) == whole[k]
    if stop == "all_exhausted":
        assert len(whole) == 12 == len(mixture(stop=stop))


def mixture_like(shuffled, stop):
    mixed = mixture(stop=stop)
    return mixed.shuffle(1) if shuffled else mixed


@pytest.mark.parametrize("hosts", [1, 2, 3, 8])
def test_hosts_deal_out_one_order_as_rows_and_as_batches(hosts):
    whole = list(islice(mixture().rows(), 240))
    rounds = 240 // (5 * hosts)
    shares = [list(islice(mixture().shard(host, hosts, window=5).rows(), rounds * 5)) for host in range(hosts)]
    dealt = [row for turn in range(rounds) for share in shares for row in share[turn * 5 : turn * 5 + 5]]
    assert dealt == whole[: len(dealt)]
    batches = mixture().shard(0, hosts, window=5).batches(7)
    assert [row for batch in islice(batches, 4) for row in batch.to_pylist()] == shares[0][:28]


def test_columns_are_measured_as_rows_are(tmp_path):
    import pyarrow.parquet as pq
    from easydata_sources import ParquetShardedSource

    sources = {}
    for name, lengths in LENGTHS.items():
        rows = [{"name": name, "input_ids": [7] * length, "length": length} for length in lengths]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{name}.parquet")
        sources[name] = ParquetShardedSource(tmp_path / f"{name}.parquet")
    for options in ({}, {"length_field": "length"}):
        mixed = MixedShardedSource(sources, [1, 1, 2], weight_by="token", block_size=10, seed=3, **options)
        expected = [row["name"] for row in islice(mixture().rows(), 90)]
        assert [row["name"] for row in islice(mixed.rows(), 90)] == expected
        batches = islice(mixed.batches(30), 3)
        assert [row["name"] for batch in batches for row in batch.to_pylist()] == expected


@pytest.mark.parametrize("stop", ["restart", "first_exhausted", "all_exhausted"])
def test_known_lengths_tell_the_order_without_reading(stop):
    mixed = mixture(stop=stop)
    rows = list(islice(mixed.rows(), 100))
    decided = [mixed.names[source] for order in mixed.decisions(100) for source in order]
    assert decided == [row["name"] for row in rows]
    told = mixed.simulate(100)
    assert told.tokens == {name: tokens_of(rows)[name] for name in LENGTHS}
    assert told.rows == {name: Counter(decided)[name] for name in LENGTHS}
    assert told.plot().count("\n") == 22


def test_a_schedule_moves_the_shares_of_tokens():
    points = [
        WeightSchedulePoint(0, {"short": 1.0, "long": 0.0, "middle": 0.0}),
        WeightSchedulePoint(400, {"short": 0.0, "long": 1.0, "middle": 0.0}),
    ]
    sources = {name: Tokenized(name, lengths) for name, lengths in LENGTHS.items()}
    mixed = MixedShardedSource(
        sources, weight_scheduler=WeightScheduler(points, "linear", unit="sample"), weight_by="token", block_size=20
    )
    rows = list(islice(mixed.rows(), 440))
    early, late = tokens_of(rows[:40]), tokens_of(rows[400:])
    assert early["short"] / early.total() > 0.4  # one long row weighs as much as forty short ones
    assert late["long"] == late.total()
    assert not tokens_of(rows)["middle"]


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(MixtureError, match="'row', 'token'"):
        MixedShardedSource({"a": [{"x": 1}]}, weight_by="tokens")
    with pytest.raises(MixtureError, match="means something only"):
        MixedShardedSource({"a": [{"x": 1}]}, length_field="x")
    plain = MixedShardedSource({"a": [{"x": 1}], "b": [{"x": 2}]}, weight_by="token")
    with pytest.raises(MixtureError, match="source 'a' has no `input_ids`; it has x"):
        next(plain.rows())
    with pytest.raises(MixtureError, match="not known without reading"):
        list(plain.decisions(5))
    with pytest.raises(TypeError, match="max_training_steps"):
        len(mixture(stop="first_exhausted"))
    state = mixture().rows().state()
    row_wise = MixedShardedSource({name: Tokenized(name, LENGTHS[name]) for name in LENGTHS}, [1, 1, 2], 10, 3)
    with pytest.raises(MixtureError, match="another `weight_by`"):
        mixture().rows(row_wise.rows().state())
    assert mixture().rows(state)
