import json
from itertools import pairwise

import numpy as np
import pytest
from easydata_sources import MemoryShardedSource, RowError
from easydata_tokenize import PackedShardedSource, PackTransform, open_saved, pack_columns, plan_packs, save_dataset
from hypothesis import given, settings
from hypothesis import strategies as st


def rows_of(*lists):
    return [{"input_ids": np.array(ids, np.int32)} for ids in lists]


def numbered(lengths):
    """Rows of distinct tokens, so that every one can be followed."""
    ends = np.cumsum(lengths)
    return rows_of(*(range(end - length, end) for length, end in zip(lengths, ends, strict=True)))


def packed(rows, seq_length, strategy="best_fit", **options):
    packs = PackTransform(seq_length, strategy, **options).pack(rows)
    sizes = [np.bincount(pack["segment_ids"])[1:].tolist() for pack in packs]
    return [pack["input_ids"].tolist() for pack in packs], sizes


# Vectors of TRL's own tests.


@pytest.mark.parametrize(
    ("strategy", "seq_length", "rows", "ids", "sizes"),
    [
        ("bfd", 4, [[1, 2, 3], [4, 5, 6, 7], [8]], [[4, 5, 6, 7], [1, 2, 3, 8]], [[4], [3, 1]]),
        (
            "bfd_split",
            4,
            [[1, 2, 3, 4, 5], [6, 7], [8, 9, 10, 11], [12]],
            [[1, 2, 3, 4], [8, 9, 10, 11], [6, 7, 5, 12]],
            [[4], [4], [2, 1, 1]],
        ),
        (
            "bfd",
            4,
            [[1, 2, 3, 4, 5], [6, 7], [8, 9, 10, 11], [12]],
            [[1, 2, 3, 4], [8, 9, 10, 11], [6, 7, 12]],
            [[4], [4], [2, 1]],
        ),
        (
            "bfd_split",
            5,
            [[1, 2, 3, 4, 5], [6], [7, 8, 9, 10], [11, 12, 13]],
            [[1, 2, 3, 4, 5], [7, 8, 9, 10, 6], [11, 12, 13]],
            [[5], [4, 1], [3]],
        ),
        ("bfd", 4, [[], [1], []], [[1]], [[1]]),
    ],
)
def test_packs_are_trls(strategy, seq_length, rows, ids, sizes):
    assert packed(rows_of(*rows), seq_length, strategy) == (ids, sizes)


def test_the_other_strategies_by_hand():
    rows = rows_of([1, 2, 3], [4, 5], [6], [7, 8, 9])
    assert packed(rows, 4, "greedy")[0] == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert packed(rows, 4, "first_fit")[0] == [[1, 2, 3, 6], [4, 5], [7, 8, 9]]
    assert packed(rows, 4, "wrapped") == ([[1, 2, 3, 4], [5, 6, 7, 8], [9]], [[3, 1], [1, 1, 2], [1]])


# What holds for any rows.

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=60)
STRATEGIES = st.sampled_from(["best_fit", "first_fit", "greedy", "wrapped"])


@given(LENGTHS, st.integers(1, 24), STRATEGIES)
def test_no_token_is_lost_or_doubled_and_columns_stay_aligned(lengths, seq_length, strategy):
    rows = [row | {"labels": row["input_ids"] + 1000} for row in numbered(lengths)]
    packs = PackTransform(seq_length, strategy, over_long="split").pack(rows)
    ids = np.concatenate([pack["input_ids"] for pack in packs])
    assert sorted(ids.tolist()) == list(range(sum(lengths)))
    owner = np.repeat(np.arange(len(lengths)), lengths)
    for pack in packs:
        assert 0 < len(pack["input_ids"]) <= seq_length
        assert np.array_equal(pack["labels"], pack["input_ids"] + 1000)
        assert pack["segment_ids"][0] == 1
        new = np.diff(pack["segment_ids"], prepend=0)
        assert set(new.tolist()) <= {0, 1}
        for start, stop in pairwise([*np.flatnonzero(new).tolist(), len(new)]):
            piece = pack["input_ids"][start:stop]
            assert np.array_equal(piece, np.arange(piece[0], piece[0] + len(piece)))
            assert len(set(owner[piece].tolist())) == 1
            assert np.array_equal(pack["position_ids"][start:stop], np.arange(len(piece)))


@given(LENGTHS, st.integers(40, 64), STRATEGIES)
def test_rows_that_fit_are_never_cut_but_by_wrapping(lengths, seq_length, strategy):
    _, sizes = packed(numbered(lengths), seq_length, strategy)
    pieces = sorted(size for pack in sizes for size in pack)
    assert (pieces == sorted(lengths)) or strategy == "wrapped"
    if strategy == "wrapped":
        assert all(sum(pack) == seq_length for pack in sizes[:-1])


@given(LENGTHS)
def test_best_fit_opens_a_pack_only_where_none_has_room(lengths):
    plan = plan_packs(np.array(lengths), 40, "best_fit")
    packs = [np.array(lengths)[plan.order[a:b]] for a, b in pairwise(plan.starts)]
    assert sorted(np.concatenate(packs).tolist()) == sorted(lengths)
    for index, pack in enumerate(packs):
        opened_by = pack[0]  # longer rows came before: what they left was less than this row needs
        for earlier in packs[:index]:
            assert 40 - earlier[earlier >= opened_by].sum() < opened_by or earlier[0] < opened_by


@given(LENGTHS, st.integers(1, 24), st.sampled_from(["truncate", "drop"]))
def test_rows_too_long_are_cut_or_dropped_and_counted(lengths, seq_length, policy):
    transform = PackTransform(seq_length, over_long=policy)
    packs = transform.pack(numbered(lengths))
    long = sum(length > seq_length for length in lengths)
    kept = sum(min(length, seq_length) for length in lengths if policy == "truncate" or length <= seq_length)
    assert sum(len(pack["input_ids"]) for pack in packs) == kept
    reason = "truncated" if policy == "truncate" else "dropped_too_long"
    assert transform.report.counts == ({reason: long} if long else {})


def test_columns_are_packed_as_rows_are():
    lengths = np.array([3, 9, 2, 5])
    values = np.arange(lengths.sum())
    columns, starts = pack_columns({"input_ids": values}, lengths, 8, split=True)
    rows = PackTransform(8, over_long="split").pack(numbered(lengths.tolist()))
    assert [columns["input_ids"][a:b].tolist() for a, b in pairwise(starts)] == [
        row["input_ids"].tolist() for row in rows
    ]


# As a source.


def packed_source(lengths=range(1, 60), window=8):
    return PackedShardedSource(MemoryShardedSource(numbered(list(lengths))), 64, window=window)


def ids_of(rows):
    return [row["input_ids"].tolist() for row in rows]


def test_a_position_continues_with_exactly_the_rest():
    whole = ids_of(packed_source().rows())
    stream = packed_source().rows()
    for taken in range(len(whole)):
        state = json.loads(json.dumps(stream.state()))
        assert ids_of(packed_source().rows(state)) == whole[taken:]
        next(stream)


@settings(deadline=None)
@given(st.sampled_from([1, 2, 3, 8]), st.integers(0, 3))
def test_hosts_together_read_the_packs_of_one(hosts, epoch):
    source = packed_source().shuffle(seed=3, epoch=epoch)
    one = ids_of(source.rows())
    shares = [ids_of(source.shard(index, hosts, window=8).rows()) for index in range(hosts)]
    assert sorted(map(tuple, one)) == sorted(tuple(ids) for share in shares for ids in share)


def test_packing_behind_a_filter_works_on_windows_of_what_was_read():
    rows = MemoryShardedSource(numbered([4] * 64)).filter(lambda row: row["input_ids"][0] % 8 == 0)
    source = PackedShardedSource(rows, 16, window=8)
    assert [len(ids) for ids in ids_of(source.rows())] == [16] * 8
    shares = [ids_of(source.shard(index, 2, window=8).rows()) for index in range(2)]
    assert sorted(shares[0] + shares[1]) == sorted(ids_of(source.rows()))


@pytest.mark.parametrize("hosts", [2, 3])
@pytest.mark.parametrize("window", [4, 256, 300])
def test_packing_behind_two_filters_works_on_windows_of_what_was_read(hosts, window):
    # Found by random compositions: windows were those of the rows that filters had left, and hosts made other packs.
    def source():
        rows = MemoryShardedSource(numbered([1 + n % 5 for n in range(700)]))
        kept = rows.filter(lambda row: row["input_ids"][0] % 3).filter(lambda row: row["input_ids"][0] % 2)
        return kept.transform(PackTransform(8, window=window))

    whole = ids_of(source().rows())
    shares = [ids_of(source().shard(index, hosts, window=window).rows()) for index in range(hosts)]
    assert sorted(map(tuple, whole)) == sorted(tuple(ids) for share in shares for ids in share)


@pytest.mark.parametrize(("inner", "outer"), [(4, 16), (300, 4), (6, 16)])
def test_packs_do_not_change_when_they_are_packed_again(inner, outer):
    # Found by random compositions: the lower packing was given the windows of the higher one.
    def lower():
        return MemoryShardedSource(numbered([1 + n % 5 for n in range(700)])).transform(PackTransform(8, window=inner))

    def no_fifths(row):
        return row["input_ids"][0] % 5 != 0

    kept = [token for ids in ids_of(lower().filter(no_fifths).rows()) for token in ids]
    again = lower().filter(no_fifths).transform(PackTransform(64, window=outer))
    assert sorted(token for ids in ids_of(again.rows()) for token in ids) == sorted(kept)
    shares = [ids_of(again.shard(index, 3, window=8).rows()) for index in range(3)]
    assert sorted(map(tuple, ids_of(again.rows()))) == sorted(tuple(ids) for share in shares for ids in share)


def test_bad_rows_below_a_packing_are_counted_and_located(tmp_path):
    def unless_seventh(row):
        if row["input_ids"][0] % 7 == 0:
            raise KeyError("a field that is not there")
        return row

    quarantine = tmp_path / "bad.jsonl"
    rows = MemoryShardedSource(rows_of(*([n, n] for n in range(20))))
    good = rows.map(unless_seventh).on_bad_rows("quarantine", file=str(quarantine), budget=1.0)
    source = good.filter(lambda row: row["input_ids"][0] % 2 == 0).transform(PackTransform(8, window=4))
    assert [token for ids in ids_of(source.rows()) for token in ids] == [
        n for n in range(20) if n % 2 == 0 and n % 7 for _ in range(2)
    ]
    assert [(row["file"], row["row"]) for row in map(json.loads, quarantine.read_text().splitlines())] == [
        ("memory", 0),
        ("memory", 7),
        ("memory", 14),
    ]


# What is refused.


def test_what_cannot_be_packed_is_refused():
    with pytest.raises(RowError, match="no tokens to pack"):
        PackTransform(8).pack([{"text": "a"}])
    with pytest.raises(RowError, match="9 tokens"):
        PackTransform(8, over_long="error").pack(numbered([3, 9]))
    with pytest.raises(ValueError, match="'bfd_split'"):
        PackTransform(8, "tightest")
    with pytest.raises(ValueError, match="over_long can only be 'split'"):
        PackTransform(8, "wrapped", over_long="drop")
    with pytest.raises(ValueError, match="`seq_length` must be at least 1"):
        PackTransform(0)
    with pytest.raises(Exception, match="do not all have the same masks"):
        PackTransform(8).pack([{"input_ids": [1], "labels": [1]}, {"input_ids": [2]}])


@pytest.mark.parametrize("strategy", ["best_fit", "first_fit", "greedy", "wrapped"])
@pytest.mark.parametrize("over_long", ["truncate", "split", "drop"])
def test_packs_of_a_saved_set_are_counted_and_found_without_reading_the_others(tmp_path, strategy, over_long):
    if strategy == "wrapped":
        over_long = "split"
    chance = np.random.default_rng(0)
    rows = [{"input_ids": chance.integers(0, 99, length).tolist()} for length in chance.integers(0, 30, 300)]
    save_dataset(rows, tmp_path, max_shard_size="8KB")
    saved = open_saved(tmp_path)
    assert saved.num_shards() > 1
    packed = PackedShardedSource(saved, 20, strategy, over_long=over_long, window=64)
    expected = [row["input_ids"].tolist() for row in packed.rows()]
    assert len(packed) == len(expected)
    for index in (0, 1, len(expected) // 2, len(expected) - 1):
        assert packed.packed_row(index)["input_ids"].tolist() == expected[index]
    assert packed.transform_applied.report.rows == 300  # looking up a row counts nothing
    with pytest.raises(IndexError, match=f"there are {len(expected)}"):
        packed.packed_row(len(expected))
    with pytest.raises(TypeError, match="open_saved"):
        packed.shuffle(0).packed_row(0)
