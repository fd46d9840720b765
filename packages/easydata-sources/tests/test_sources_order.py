"""Shuffling and sharing: orders that depend on nothing but their keys."""

from __future__ import annotations

import functools
import json
import operator
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from easydata_sources import (
    DataError,
    JsonShardedSource,
    MemoryShardedSource,
    ParquetShardedSource,
    ShardedDataSource,
)
from easydata_sources.shuffling import permutation
from easydata_sources.shuffling.permutation import mix_key, permute
from hypothesis import given, settings
from hypothesis import strategies as st


def memory(count: int) -> ShardedDataSource:
    return MemoryShardedSource([{"id": i} for i in range(count)])


def ids(source: ShardedDataSource) -> list[int]:
    return [row["id"] for row in source.rows()]


@given(size=st.integers(1, 3000), key=st.integers(-(2**70), 2**70))
@settings(max_examples=60, deadline=None)
def test_permute_is_a_permutation(size: int, key: int) -> None:
    values = permute(np.arange(size), size, mix_key(key))
    assert sorted(values.tolist()) == list(range(size))


def test_permute_is_the_same_for_ever() -> None:
    # Written down once: a change of these numbers would break every run that is resumed across it.
    assert permute(np.arange(8), 8, mix_key(1, 0)).tolist() == [5, 4, 1, 2, 6, 7, 3, 0]
    assert permute(np.array([0, 10**9 - 1]), 10**9, mix_key(1, 0)).tolist() == [883813841, 777549398]


@pytest.mark.parametrize("size", [1, 2, 5, 1000, 1037, 4097, 16_384])
def test_sizes_permuted_whole_are_permuted_as_any_others(size: int) -> None:
    positions = np.arange(size)
    assert (permutation.permute(positions, size, 3) == permutation._permute(positions, size, 3)).all()


def test_permute_leaves_no_trace_of_the_order() -> None:
    values = permute(np.arange(10_000), 10_000, mix_key(7))
    # Independent uniform ranks: correlation of neighbours has standard deviation 1/100.
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.05
    assert abs(np.corrcoef(values, np.arange(10_000))[0, 1]) < 0.05


def test_another_seed_or_epoch_is_another_order() -> None:
    orders = [tuple(ids(memory(50).shuffle(seed, epoch))) for seed in (0, 1, 43) for epoch in (0, 1)]
    assert len(set(orders)) == 6
    assert ids(memory(50).shuffle(1, 1)) == ids(memory(50).shuffle(1, 1))


def test_a_window_as_large_as_the_data_mixes_everything(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": list(range(4000))}), tmp_path / "a.parquet", row_group_size=100)
    order = ids(ParquetShardedSource(tmp_path).shuffle(1))
    assert sorted(order) == list(range(4000))
    assert abs(np.corrcoef(order, np.arange(4000))[0, 1]) < 0.08
    assert len({number // 100 for number in order[:100]}) > 20  # rows of many row groups side by side


def test_a_shuffled_row_knows_its_place(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"id": i}) + "\n" for i in range(3000)))
    for source in (JsonShardedSource(tmp_path), memory(3000)):
        for shuffled in (source.shuffle(1), source.shuffle(1).shard(1, 3), source.shuffle(1).limit(50)):
            stream = shuffled.rows()
            stream.skip(20)
            row = next(stream)
            assert stream.origin()[1] == row["id"]
            assert stream.origin()[0] == source.shard_names[0]


def test_a_position_of_other_data_is_refused() -> None:
    state = memory(10).shuffle(1).rows().state()
    with pytest.raises(DataError, match="shuffle of 10 rows; this source has 11"):
        memory(11).shuffle(1).rows(state)
    with pytest.raises(DataError, match="does not belong"):
        memory(10).rows({"shard": 5, "row": 0})


@pytest.mark.parametrize("hosts", [1, 2, 3, 8])
def test_shares_dealt_round_are_the_global_order(hosts: int) -> None:
    base = memory(103).shuffle(5)
    shares = [base.shard(index, hosts, window=4) for index in range(hosts)]
    assert [len(ids(share)) for share in shares] == [len(share) for share in shares]
    streams = [share.rows() for share in shares]
    union: list[int] = []
    while len(union) < 103:
        for stream in streams:
            union += [row["id"] for _, row in zip(range(4), stream, strict=False)]
    assert union == ids(base)


@pytest.mark.parametrize(("before", "after"), [(1, 3), (2, 3), (3, 2), (8, 1), (4, 8)])
def test_another_number_of_hosts_goes_on_in_the_global_order(before: int, after: int) -> None:
    base = memory(100).shuffle(5).map(lambda row: {"id": row["id"] * 10})
    states = []
    for index in range(before):
        stream = base.shard(index, before, window=2).rows()
        stream.skip(4)  # two whole windows each
        states.append(stream.state())
    assert [state["source"]["source"] for state in states] == [states[0]["source"]["source"]] * before
    streams = [base.shard(index, after, window=2).rows(states[0]) for index in range(after)]
    union: list[int] = []
    while len(union) < 100 - 4 * before:
        for stream in streams:
            union += [row["id"] for _, row in zip(range(2), stream, strict=False)]
    assert union == ids(base)[4 * before :]


def test_changing_hosts_within_a_round_is_refused() -> None:
    stream = memory(100).shard(0, 2, window=4).rows()
    next(stream)
    with pytest.raises(DataError, match="within a round of 2 hosts"):
        memory(100).shard(0, 3, window=4).rows(stream.state())


def test_no_host_transforms_what_another_reads() -> None:
    seen: Counter[int] = Counter()

    def note(row: dict[str, int]) -> dict[str, int]:
        seen[row["id"]] += 1
        return row

    for index in range(3):
        ids(memory(50).map(note).shard(index, 3, window=4))
    assert seen == dict.fromkeys(range(50), 1)


def test_fewer_files_than_hosts(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"id": i}) + "\n" for i in range(3000)))
    shares = [ids(JsonShardedSource(tmp_path).shard(index, 4)) for index in range(4)]
    assert sorted(functools.reduce(operator.iadd, shares, [])) == list(range(3000))
    assert [len(share) for share in shares] == [768, 768, 768, 696]  # windows of 256: 3, 3, 3, 2 + 184


@pytest.mark.parametrize(("index", "count"), [(2, 2), (-1, 2), (0, 0)])
def test_impossible_shares_are_refused(index: int, count: int) -> None:
    with pytest.raises(DataError, match="no share"):
        memory(5).shard(index, count)


@given(
    count=st.integers(0, 200),
    limit=st.integers(0, 220),
    seed=st.integers(0, 5),
    hosts=st.integers(1, 4),
    window=st.integers(1, 9),
    k=st.integers(0, 220),
)
@settings(max_examples=60, deadline=None)
def test_random_compositions_resume(count: int, limit: int, seed: int, hosts: int, window: int, k: int) -> None:
    def make() -> ShardedDataSource:
        parts = memory(count).limit(limit).filter(lambda row: row["id"] % 3).shuffle(seed, window_rows=7)
        return parts.shard(seed % hosts, hosts, window=window).map(lambda row: {"id": row["id"] + 1})

    rows = ids(make())
    stream = make().rows()
    skipped = stream.skip(k)
    assert [row["id"] for row in make().rows(json.loads(json.dumps(stream.state())))] == rows[skipped:]


@given(parts=st.lists(st.lists(st.integers(-(2**130), 2**130), min_size=1, max_size=3), min_size=2, max_size=5))
@settings(max_examples=50, deadline=None)
def test_keys_of_any_integers_depend_on_every_bit_and_sign(parts: list[list[int]]) -> None:
    assert len({mix_key(*part) for part in parts}) == len(set(map(tuple, parts)))
    first = parts[0]
    near = [first, [*first[:-1], first[-1] + 2**64], [*first[:-1], first[-1] ^ 2**127], [*first[:-1], ~first[-1]]]
    assert len({mix_key(*part) for part in near}) == 4


def test_seeds_beyond_64_bits_and_of_numpy_give_orders_of_their_own() -> None:
    seeds = [0, 2**63, 2**64, 2**64 - 1, -1, 2**63 + 1, 2**70]
    assert len({tuple(ids(memory(50).shuffle(seed))) for seed in seeds}) == len(seeds)
    assert len({tuple(ids(memory(50).shuffle(1, epoch))) for epoch in seeds}) == len(seeds)
    assert ids(memory(50).shuffle(np.int64(7), np.uint64(2**63))) == ids(memory(50).shuffle(7, 2**63))  # type: ignore[arg-type]
    for seed in (True, 1.0, "1", None):
        with pytest.raises(DataError, match="whole numbers; found"):
            memory(5).shuffle(seed)  # type: ignore[arg-type]


def test_few_rows_are_shared_by_all_hosts(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"id": i}) + "\n" for i in range(10)))
    for source in (memory(10), JsonShardedSource(tmp_path), memory(2000).limit(10)):
        for view in (source, source.map(dict), source.shuffle(1), source.filter(bool)):
            shares = [ids(view.shard(index, 2)) for index in range(2)]
            assert [len(share) for share in shares] == [5, 5]
            assert sorted(shares[0] + shares[1]) == sorted(ids(view))
    assert [len(ids(memory(3).shard(index, 8))) for index in range(8)] == [1, 1, 1, 0, 0, 0, 0, 0]
    assert [len(ids(memory(1000).shard(index, 2))) for index in range(2)] == [512, 488]
    assert [len(ids(memory(10).shard(index, 2, window=4))) for index in range(2)] == [6, 4]
