"""The promises every source keeps, on mixtures of every kind: resume(k) == suffix(k), one order on any host count."""

import json
import pickle
from collections import Counter
from itertools import islice

import pyarrow as pa
import pytest
from easydata_mix import MixedShardedSource, WeightSchedulePoint, WeightScheduler
from easydata_sources import (
    HFDatasetShardedSource,
    JsonShardedSource,
    MemoryShardedSource,
    ParquetShardedSource,
    ShardedDataSource,
)
from hypothesis import given, settings
from hypothesis import strategies as st

ROWS = 60
"""Rows looked at, of mixtures that never end."""


class Counting(ShardedDataSource):
    """Two shards, no lengths, no seeking: the least a source can be."""

    def __init__(self, first, rows):
        self.first, self.count = first, rows

    @property
    def shard_names(self):
        return ("one", "two")

    def open_shard(self, name):
        half = self.count // 2
        numbers = range(half) if name == "one" else range(half, self.count)
        return iter([{"n": self.first + number} for number in numbers])


def numbers(first, count):
    return [{"n": first + index} for index in range(count)]


def schedule(unit="sample"):
    points = [(0, 1.0), (20, 0.5), (40, 0.0)]
    return WeightScheduler(
        [WeightSchedulePoint(step, {"a": share, "b": 1 - share}) for step, share in points], "linear", unit=unit
    )


def parquet_and_json(folder):
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(numbers(0, 25)), folder / "a.parquet", row_group_size=4)
    (folder / "b.jsonl").write_text("".join(f'{{"n": {100 + index}}}\n' for index in range(9)))
    return {"a": ParquetShardedSource(folder / "a.parquet"), "b": JsonShardedSource(folder / "b.jsonl")}


def huggingface(folder):
    from datasets import Dataset

    return {"a": HFDatasetShardedSource(Dataset.from_list(numbers(0, 25)), name="a"), "b": numbers(100, 9)}


def transformed(folder):
    sources = {
        "a": MixedShardedSource({"x": numbers(0, 20), "y": numbers(50, 7)}, stop="all_exhausted", block_size=4),
        "b": Counting(100, 30),
    }
    return {name: source.filter(lambda row: row["n"] % 3) for name, source in sources.items()}


def plain(folder):
    return {"a": numbers(0, 25), "b": numbers(100, 9)}


def unknown_lengths(folder):
    return {"a": Counting(0, 25), "b": Counting(100, 9)}


SOURCES = [plain, unknown_lengths, parquet_and_json, huggingface, transformed]
OPTIONS = {
    "weights": {"weights": {"a": 0.7, "b": 0.3}},
    "schedule": {"weight_scheduler": schedule()},
    "even": {"weights": [2, 1], "block_size": 1},
}
STOPS = ["restart", "first_exhausted", "all_exhausted"]


CASES = [(s, o, stop) for s in SOURCES for o in OPTIONS for stop in STOPS]


@pytest.fixture(params=CASES, ids=[f"{s.__name__}-{o}-{stop}" for s, o, stop in CASES])
def make(request, tmp_path):
    sources, options, stop = request.param

    def build():
        return MixedShardedSource(
            **{"sources": sources(tmp_path), "block_size": 8, "seed": 3, "stop": stop, **OPTIONS[options]}
        )

    return build


def head(source, state=None, rows=ROWS):
    return list(islice(source.rows(state), rows))


def test_resuming_at_any_row_gives_exactly_the_rest(make):
    whole = head(make())
    stream = make().rows()
    for position in range(len(whole)):
        if position in {0, 1, 7, 8, 9, 21, 40, ROWS - 1}:
            state = json.loads(json.dumps(stream.state()))
            fresh = make()
            assert head(fresh, state, len(whole) - position) == whole[position:]
        next(stream)


def test_a_state_can_be_saved_again_right_after_it_was_restored(make):
    stream = make().rows()
    list(islice(stream, 11))
    state = stream.state()
    for _ in range(2):
        state = make().rows(state).state()
    assert head(make(), state, 20) == head(make(), None, 31)[11:]


def test_batches_hold_the_same_rows_and_share_their_positions(make):
    whole = head(make())
    batches = make().batches(10)
    first = next(batches).to_pylist()
    assert first == whole[: len(first)]
    rest = head(make(), batches.state(), ROWS - len(first))
    assert rest == whole[len(first) :]
    stream = make().rows()
    list(islice(stream, 13))
    if len(whole) > 13:
        assert next(make().batches(5, stream.state())).to_pylist() == whole[13:18]


def test_skipping_is_reading_without_the_rows(make):
    whole = head(make())
    for skipped in (0, 5, 7, 40):
        stream = make().rows()
        next(stream)
        assert stream.skip(skipped) == min(skipped, len(whole) - 1)
        assert list(islice(stream, max(0, len(whole) - 1 - skipped))) == whole[1 + skipped :]


def test_a_position_depends_on_the_rows_given_alone(make):
    total = len(head(make()))
    for k in (1, 8, 9, 26, total):
        if k <= total:
            reading = make().rows()
            list(islice(reading, k))
            expected = json.dumps(reading.state())
            batches = make().batches(k)
            next(batches)
            assert json.dumps(batches.state()) == expected
            for first in (0, 3, k - 1, k):
                stream = make().rows()
                stream.skip(min(first, k))
                assert json.dumps(other_way(make(), stream, k - min(first, k))) == expected


def other_way(mixture, stream, rows):
    """The position after `rows` more rows: half of them read, then restored, and the rest stepped over."""
    list(islice(stream, rows // 2))
    restored = mixture.rows(json.loads(json.dumps(stream.state())))
    restored.skip(rows - rows // 2)
    return restored.state()


def test_hosts_of_filtered_sources_save_equal_positions():
    # Found by random compositions: what a host had stepped over showed in the position of the source below.
    def share(index):
        kept = MemoryShardedSource(numbers(0, 33)).filter(lambda row: row["n"] % 3).filter(lambda row: row["n"] % 5)
        return MixedShardedSource({"a": kept, "b": numbers(50, 9)}, [2, 1], block_size=1, stop="all_exhausted").shard(
            index, 2, window=1
        )

    streams = [share(index).rows() for index in range(2)]
    for _ in range(6):
        for stream in streams:
            next(stream)
        assert streams[0].state() == streams[1].state()


def test_positions_of_long_passes_name_the_cell_of_the_row():
    def make():
        filtered = MemoryShardedSource(numbers(0, 2000)).filter(lambda row: row["n"] % 2)
        return MixedShardedSource({"a": filtered, "b": numbers(5000, 700)}, [3, 1], block_size=10)

    stream = make().rows()
    whole = list(islice(stream, 3000))
    for k in (341, 342, 1023, 1024, 1400, 2999):
        reading, stepping = make().rows(), make().rows()
        list(islice(reading, k))
        assert stepping.skip(k) == k
        assert stepping.state() == reading.state()
        assert all(entry["skip"] < 256 for entry in reading.state()["sources"].values())
        assert head(make(), reading.state(), 3000 - k) == whole[k:]
        batches = make().batches(k)
        next(batches)
        assert batches.state() == reading.state()
        resumed = [row for batch in islice(make().batches(100, reading.state()), 3) for row in batch.to_pylist()]
        assert resumed[: 3000 - k] == whole[k : k + 300]


def test_batches_hold_every_column_of_their_rows_and_nulls_where_a_row_has_none():
    sources = {"a": [{"n": 1, "text": "x"}] * 4, "b": [{"n": 2}] * 4}
    mixture = MixedShardedSource(sources, [1, 1], block_size=1)
    (batch,) = islice(mixture.batches(4), 1)
    assert batch.schema.names == ["n", "text"]
    assert batch.to_pylist() == [{"n": row["n"], "text": row.get("text")} for row in islice(mixture.rows(), 4)]
    assert MixedShardedSource({"b": sources["b"]}).batches(4).__next__().schema.names == ["n"]


@pytest.mark.parametrize("hosts", [1, 2, 3, 8])
def test_the_global_order_does_not_depend_on_the_number_of_hosts(make, hosts):
    window = 4
    whole = head(make())
    rounds = len(whole) // (window * hosts)
    shares = [head(make().shard(host, hosts, window=window), None, rounds * window) for host in range(hosts)]
    dealt = [row for turn in range(rounds) for share in shares for row in share[turn * window : (turn + 1) * window]]
    assert dealt == whole[: len(dealt)]


def test_opening_the_shard_at_a_row(make):
    source = make()
    (shard,) = source.shard_names
    whole = head(source)
    assert source.num_shards() == 1
    assert list(islice(source.open_shard_at_row(shard, 9), len(whole) - 9)) == whole[9:]
    assert list(islice(source.open_shard(shard), 3)) == whole[:3]


def test_rows_belong_to_the_reader():
    rows = numbers(0, 5)
    for row in islice(MixedShardedSource({"a": rows}, provenance=True), 5):
        row["n"] = None
    assert rows == numbers(0, 5)  # data-layer notes §2.7: rows were changed in place


def test_a_mixture_survives_pickling():
    source = MixedShardedSource({"a": numbers(0, 9), "b": numbers(20, 9)}, weight_scheduler=schedule("step"))
    source.bind(rows_per_step=4)
    assert head(pickle.loads(pickle.dumps(source))) == head(source)


def test_another_host_count_can_take_over_between_rounds():
    def build():
        return MixedShardedSource(plain(None), [2, 1], block_size=8)

    whole = head(build(), None, 48)
    streams = [build().shard(host, 2, window=4).rows() for host in range(2)]
    for stream in streams:
        list(islice(stream, 12))
    for state in [stream.state() for stream in streams]:  # either host's position will do
        shares = [list(islice(build().shard(host, 3, window=4).rows(state), 8)) for host in range(3)]
        assert [row for turn in (0, 4) for share in shares for row in share[turn : turn + 4]] == whole[24:48]


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    values=st.lists(st.sampled_from([0.01, 0.3, 1, 5]), min_size=4, max_size=4),
    block_size=st.sampled_from([1, 3, 10]),
    stop=st.sampled_from(STOPS),
    edit=st.none() | st.integers(0, 30),
    shuffled=st.booleans(),
    position=st.integers(0, 40),
)
def test_any_mixture_resumes_exactly(lengths, values, block_size, stop, edit, shuffled, position):
    def build(journal=True):
        sources = {str(index): numbers(100 * index, length) for index, length in enumerate(lengths)}
        source = MixedShardedSource(sources, values[: len(lengths)], block_size=block_size, stop=stop)
        if edit is not None and journal:
            source.edit_weights(dict(zip(sources, reversed(values[: len(lengths)]), strict=True)), from_row=edit)
        return source.shuffle(5, epoch=0) if shuffled else source

    whole = head(build())
    stream = build().rows()
    skipped = stream.skip(position)
    state = json.loads(json.dumps(stream.state()))
    assert head(build(journal=False), state, ROWS - skipped) == whole[skipped:]
    if stop != "restart":
        assert len(build()) == len(list(build().rows()))


def test_bad_rows_of_a_source_keep_their_places_in_the_mixture():
    def number(row):
        return {"n": row["n"] + 0}

    def build():
        bad = MemoryShardedSource([{"n": i} if i % 4 else {"n": None} for i in range(40)]).map(number)
        mixture = MixedShardedSource({"a": bad, "b": numbers(100, 40)}, [1, 1], block_size=4, provenance=True)
        return mixture.limit(60).on_bad_rows("skip", budget=1.0)

    rows = list(build())
    assert Counter(row["__source__"] for row in rows) == {"a": 22, "b": 30}  # of 30 rows of `a` the bad 8 are gone
    stream = build().rows()
    head = list(islice(stream, 17))
    assert head + list(build().rows(json.loads(json.dumps(stream.state())))) == rows
    shares = [list(build().shard(host, 3, window=4)) for host in range(3)]
    assert sorted(row["n"] for share in shares for row in share) == sorted(row["n"] for row in rows)
