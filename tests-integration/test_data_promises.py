"""Promises 1 to 4 on compositions that nobody thought of: four to six stages drawn at random over files, lists, tables,
Hugging Face data sets and streams, with endless mixtures among the stages.

`EASYDEL_EXAMPLES` says how many compositions each test draws (the session `promises` draws many).
"""

import gzip
import json
import os
from collections import Counter
from fractions import Fraction
from itertools import islice

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from easydata_mix import MixedShardedSource, MixtureError, WeightSchedulePoint, WeightScheduler
from easydata_sources import (
    BatchTransform,
    CompositeShardedSource,
    ExpandTransform,
    HFDatasetShardedSource,
    HostShardedSource,
    JsonShardedSource,
    MemoryShardedSource,
    ParquetShardedSource,
    TableShardedSource,
)
from easydata_tokenize import PackTransform
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("EASYDEL_EXAMPLES", "8"))
MOST_ROWS = 120
ALL_ROWS = 2000
many = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def row(number):
    return {"input_ids": [number] * (1 + number % 5)}


def first(row):
    return row["input_ids"][0]


class Copies(ExpandTransform):
    """None, one or two copies of a row."""

    def __call__(self, row):
        for copy in range(first(row) % 3):
            yield {"input_ids": [*row["input_ids"], copy]}


class Halves(BatchTransform):
    """Drops every seventh row and splits every second."""

    def transform_batch(self, rows):
        return [[] if first(row) % 7 == 0 else [row] * (1 + first(row) % 2) for row in rows]


def is_not_third(row):
    return first(row) % 3 != 0


def longer(row):
    return {"input_ids": [*row["input_ids"], 9]}


def as_lists(row):
    return {name: value.tolist() for name, value in row.items()}


def unless_fifth(row):
    if first(row) % 5 == 0:
        raise KeyError("a field that is not there")
    return row


@pytest.fixture(scope="module")
def leaves(tmp_path_factory):
    """Rows of every kind of access: single rows, blocks, in order only; one file with broken lines."""
    folder = tmp_path_factory.mktemp("leaves")
    pq.write_table(pa.Table.from_pylist([row(n) for n in range(1, 30)]), folder / "a.parquet", row_group_size=7)
    lines = [json.dumps(row(n)) for n in range(30, 61)]
    (folder / "a.jsonl").write_text("\n".join(lines[:20]))
    (folder / "b.jsonl").write_text("\n\n".join(lines[20:]))
    (folder / "c.jsonl.gz").write_bytes(gzip.compress("\n".join(json.dumps(row(n)) for n in range(61, 80)).encode()))
    broken = [json.dumps(row(n)) if n % 4 else '{"input_ids": [1' for n in range(80, 110)]
    (folder / "broken.ndjson").write_text("\n".join(broken))
    data_set = datasets.Dataset.from_list([row(n) for n in range(300, 331)])
    stream = datasets.Dataset.from_list([row(n) for n in range(400, 431)]).to_iterable_dataset(num_shards=3)
    tables = [pa.table({"input_ids": [[n] * 3 for n in range(start, start + 9)]}) for start in (500, 510)]
    unlike = [tables[0].append_column("x", [range(9)]), tables[1].append_column("x", [[0.5] * 9])]
    return {
        "memory": lambda: MemoryShardedSource([row(n) for n in range(200, 233)]),
        "parquet": lambda: ParquetShardedSource(folder / "a.parquet"),
        "lines": lambda: JsonShardedSource([folder / "a.jsonl", folder / "b.jsonl"]),
        "gzip": lambda: JsonShardedSource(folder / "c.jsonl.gz"),
        "broken": lambda: JsonShardedSource(folder / "broken.ndjson").on_bad_rows("skip", budget=1.0),
        "data_set": lambda: HFDatasetShardedSource(data_set),
        "picked": lambda: HFDatasetShardedSource(data_set.select([(7 * n) % 31 for n in range(31)])),
        "stream": lambda: HFDatasetShardedSource(stream),
        "shuffled_stream": lambda: HFDatasetShardedSource(stream.shuffle(seed=3, buffer_size=5)),
        "unlike": lambda: CompositeShardedSource([TableShardedSource(table) for table in unlike]),
    }


NAMES = [
    "memory",
    "parquet",
    "lines",
    "gzip",
    "broken",
    "data_set",
    "picked",
    "stream",
    "shuffled_stream",
    "unlike",
]
LEAF = st.sampled_from(NAMES)
STAGE = st.one_of(
    st.tuples(st.just("filter")),
    st.tuples(st.just("map")),
    st.tuples(st.just("expand")),
    st.tuples(st.just("batched")),
    st.tuples(st.just("skip_bad")),
    st.tuples(st.just("shuffle"), st.integers(0, 3), st.integers(0, 2), st.sampled_from([2, 8, 64])),
    st.tuples(st.just("limit"), st.integers(1, 70)),
    st.tuples(st.just("composite"), LEAF),
    st.tuples(st.just("mix"), LEAF, st.sampled_from([1, 4, 50]), st.sampled_from(["all_exhausted", "restart"])),
    st.tuples(st.just("mix_tokens"), LEAF, st.sampled_from([4, 16])),
    st.tuples(st.just("endless"), LEAF, st.sampled_from([1, 7])),
    st.tuples(st.just("pack"), st.sampled_from([8, 16]), st.sampled_from([4, 300])),
)
HOSTS = st.sampled_from([1, 2, 3, 8])
COMPOSITION = st.tuples(LEAF, st.lists(STAGE, min_size=3, max_size=5))


def build(leaves, composition):
    name, stages = composition
    source = leaves[name]()
    for kind, *details in stages:
        source = STAGES[kind](leaves, source, *details)
    return source.limit(97) if source.is_endless else source


def mixed(leaves, source, other, block_size, stop):
    mixture = MixedShardedSource({"a": source, "b": leaves[other]()}, [2, 1], block_size=block_size, stop=stop)
    return mixture.limit(90) if stop == "restart" else mixture


def endless(leaves, source, other, block_size):
    return MixedShardedSource({"a": source, "b": leaves[other]()}, [3, 1], block_size=block_size)


def joined(leaves, source, other):
    parts = [source, leaves[other]()]
    return CompositeShardedSource(parts[::-1] if source.is_endless else parts)  # what is endless comes last


def mixed_by_tokens(leaves, source, other, block_size):
    sources = {"a": source, "b": leaves[other]()}
    return MixedShardedSource(sources, [2, 1], block_size=block_size, stop="all_exhausted", weight_by="token")


STAGES = {
    "filter": lambda leaves, source: source.filter(is_not_third),
    "map": lambda leaves, source: source.map(longer),
    "expand": lambda leaves, source: source.transform(Copies()),
    "batched": lambda leaves, source: source.transform(Halves()),
    "skip_bad": lambda leaves, source: source.map(unless_fifth).on_bad_rows("skip", budget=1.0),
    "shuffle": lambda leaves, source, seed, epoch, window: source.shuffle(seed, epoch, window_rows=window),
    "limit": lambda leaves, source, rows: source.limit(rows),
    "composite": joined,
    "mix": mixed,
    "mix_tokens": mixed_by_tokens,
    "endless": endless,
    "pack": lambda leaves, source, length, window: source.transform(
        PackTransform(length, over_long="truncate", window=window)
    ).map(as_lists),
}


def keys(rows):
    return [json.dumps(row) for row in rows]


def all_rows(source):
    """The rows of a composition; none where a mixture starts a source over that a stage has left without rows."""
    return list(islice(source.rows(), ALL_ROWS))


@many
@given(composition=COMPOSITION, data=st.data())
def test_promise_1_a_restored_stream_gives_exactly_the_rest(leaves, composition, data):
    whole = try_reading(leaves, composition)
    stream = build(leaves, composition).rows()
    k = data.draw(st.integers(0, len(whole)), label="rows before")
    assert list(islice(stream, k)) == whole[:k]
    text = json.dumps(stream.state())
    assert len(text) < 20_000
    restored = build(leaves, composition).rows(json.loads(text))
    again = data.draw(st.integers(0, len(whole) - k), label="rows between")
    assert list(islice(restored, again)) == whole[k : k + again]
    twice = build(leaves, composition).rows(json.loads(json.dumps(restored.state())))
    assert list(twice) == whole[k + again :]
    skipping = build(leaves, composition).rows()
    assert skipping.skip(k) == k
    assert list(skipping) == whole[k:]


@many
@given(composition=COMPOSITION, data=st.data())
def test_promise_1_batches_hold_the_rows_and_share_their_positions(leaves, composition, data):
    whole = try_reading(leaves, composition)
    batches = build(leaves, composition).batches(7)
    taken = data.draw(st.integers(0, len(whole) // 7), label="batches")
    seen = []
    for batch in islice(batches, taken):
        rows = whole[len(seen) : len(seen) + batch.num_rows]
        # A column is there if a row of the batch has it, or one near it; and null where a row has not.
        assert set(batch.schema.names) >= {name for row in rows for name in row}
        assert batch.to_pylist() == [dict.fromkeys(batch.schema.names) | row for row in rows]
        seen += rows
    assert list(build(leaves, composition).rows(batches.state())) == whole[len(seen) :]


@many
@given(composition=COMPOSITION, size=st.sampled_from([1, 7, 300]), hosts=st.sampled_from([2, 3]), data=st.data())
def test_promise_1_length_rows_batches_skips_and_shares_agree(leaves, composition, size, hosts, data):
    whole = try_reading(leaves, composition)
    source = build(leaves, composition)
    assert length_of(source) in (None, len(whole))
    assert sum(batch.num_rows for batch in source.batches(size)) == len(whole)
    assert source.rows().skip(ALL_ROWS) == len(whole)
    stream = source.rows()
    read, stepped = (data.draw(st.integers(0, len(whole)), label=label) for label in ("rows read", "rows skipped"))
    assert len(list(islice(stream, read))) == read
    assert stream.skip(stepped) == min(stepped, len(whole) - read)
    assert list(build(leaves, composition).rows(stream.state())) == whole[read + stepped :]
    shares = [source.shard(index, hosts, window=5) for index in range(hosts)]
    counts = [len(all_rows(share)) for share in shares]
    assert sum(counts) == len(whole)
    for share, count in zip(shares, counts, strict=True):
        assert length_of(share) in (None, count)
        assert share.rows().skip(ALL_ROWS) == count
    bounded = source.limit(50)
    assert length_of(bounded) in (None, min(50, len(whole)))
    assert not bounded.is_endless


def length_of(source):
    try:
        return len(source)
    except TypeError:
        return None


@many
@given(
    composition=COMPOSITION, before=st.sampled_from([1, 2, 3, 8]), after=st.sampled_from([1, 2, 3, 8]), data=st.data()
)
def test_promise_2_one_global_order_on_any_number_of_hosts(leaves, composition, before, after, data):
    window = data.draw(st.integers(1, 6), label="window")
    whole = try_reading(leaves, composition)
    rounds = data.draw(st.integers(0, len(whole) // (window * before)), label="rounds before the change")

    def share(index, count):
        return HostShardedSource(build(leaves, composition), index=index, count=count, window=window)

    streams = [share(index, before).rows() for index in range(before)]
    parts = [list(islice(stream, rounds * window)) for stream in streams]
    assert dealt(parts, window) == whole[: rounds * window * before]
    states = {json.dumps({**stream.state(), "hosts": 0}) for stream in streams}
    assert len(states) == 1  # every host is at the same position of the one order
    state = streams[0].state()
    rest = [list(share(index, after).rows(state)) for index in range(after)]
    assert dealt(rest, window) == whole[rounds * window * before :]


@many
@given(composition=COMPOSITION, hosts=st.sampled_from([2, 3, 8]))
def test_promise_2_hosts_share_the_source_rows_and_none_is_lost_or_doubled(leaves, composition, hosts):
    whole = keys(try_reading(leaves, composition))
    shares = [keys(build(leaves, composition).shard(index, hosts, window=4)) for index in range(hosts)]
    assert Counter(key for share in shares for key in share) == Counter(whole)
    for share in shares:
        rest = iter(whole)
        assert all(key in rest for key in share)  # in the global order


@many
@given(
    compositions=st.lists(COMPOSITION, min_size=2, max_size=4),
    weights=st.lists(st.sampled_from([1, 2, 0.3, 0.05]), min_size=4, max_size=4),
    block_size=st.sampled_from([1, 5, 40]),
    scheduled=st.booleans(),
)
def test_promise_3_shares_of_compositions_are_exact_at_every_block(
    leaves, compositions, weights, block_size, scheduled
):
    for composition in compositions:
        if not try_reading(leaves, composition):
            return
    names = [str(index) for index in range(len(compositions))]
    start = exact(weights[: len(names)])
    end = exact(list(reversed(weights[: len(names)]))) if scheduled else start
    points = [WeightSchedulePoint(0, named(names, start)), WeightSchedulePoint(100, named(names, end))]
    mixture = MixedShardedSource(
        {name: build(leaves, composition) for name, composition in zip(names, compositions, strict=True)},
        weight_scheduler=WeightScheduler(points, "linear", unit="sample"),
        block_size=block_size,
        provenance=True,
    )
    sources = [row["__source__"] for row in islice(mixture.rows(), MOST_ROWS)]
    for boundary in range(block_size, MOST_ROWS + 1, block_size):
        given_rows = Counter(sources[:boundary])
        for index, name in enumerate(names):
            way = [min(Fraction(n, 100), Fraction(1)) for n in range(boundary)]
            due = sum(start[index] * (1 - part) + end[index] * part for part in way)
            assert abs(given_rows[name] - due) < 1 + Fraction(1, 1000)


@many
@given(composition=COMPOSITION, seed=st.integers(0, 5), hosts=st.sampled_from([1, 3]))
def test_promise_4_every_row_is_given_or_counted(leaves, composition, seed, hosts):
    unshuffled = try_reading(leaves, composition)
    whole = all_rows(build(leaves, composition).shuffle(seed))
    if not any(kind == "pack" for kind, *_ in composition[1]):  # shuffled rows make other packs
        assert Counter(keys(whole)) == Counter(keys(unshuffled))
    stages = [
        build(leaves, composition).map(unless_fifth).on_bad_rows("skip", budget=1.0).shuffle(seed).shard(i, hosts)
        for i in range(hosts)
    ]
    kept = [row for stage in stages for row in stage]
    counted = Counter()
    for stage in stages:
        counted.update(stage.reports()[0].counts)
    assert len(kept) + counted.total() == len(whole)
    assert counted.total() == sum(first(row) % 5 == 0 for row in whole)
    packs = [stage.transform(PackTransform(64, window=16)) for stage in stages]
    packed = sum(len(pack["input_ids"]) for stage in packs for pack in stage)
    assert packed == sum(min(len(row["input_ids"]), 64) for row in kept)


def try_reading(leaves, composition):
    """The rows of a composition, if it has any: a `restart` mixture refuses a source that was left without."""
    try:
        return all_rows(build(leaves, composition))
    except MixtureError as error:
        assume("has no rows" not in str(error))
        raise


def dealt(parts, window):
    """The rows of hosts dealt round in windows."""
    rounds = max((-(-len(part) // window) for part in parts), default=0)
    return [row for turn in range(rounds) for part in parts for row in part[turn * window : (turn + 1) * window]]


def exact(weights):
    values = [Fraction(str(weight)) for weight in weights]
    return [value / sum(values) for value in values]


def named(names, shares):
    return {name: float(share) for name, share in zip(names, shares, strict=True)}
