"""MixedShardedSource: exact shares of real rows, stop policies, edits, schedules and refusals."""

from collections import Counter
from itertools import islice, pairwise

import pytest
from easydata_mix import MixedShardedSource, MixtureError, WeightSchedulePoint, WeightScheduler
from easydata_sources import CompositeShardedSource, DataError, MemoryShardedSource, RowError
from easydata_sources.transforms.transform import BatchTransform
from hypothesis import given, settings
from hypothesis import strategies as st


def rows_of(name, count):
    return [{"source": name, "n": index} for index in range(count)]


def mixture(lengths, *arguments, **options):
    return MixedShardedSource({name: rows_of(name, count) for name, count in lengths.items()}, *arguments, **options)


def counts(rows):
    return Counter(row["source"] for row in rows)


def line(steps, unit="step"):
    points = [WeightSchedulePoint(0, {"a": 1.0, "b": 0.0}), WeightSchedulePoint(steps, {"a": 0.0, "b": 1.0})]
    return WeightScheduler(points, "linear", unit=unit)


# Shares


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from([0.001, 0.2, 1, 3.5]), min_size=2, max_size=5), st.sampled_from([1, 4, 25]), st.integers(1)
)
def test_every_block_boundary_is_within_one_row_of_the_share(values, block_size, seed):
    names = [f"s{index}" for index in range(len(values))]
    mixed = mixture(dict.fromkeys(names, 7), values, block_size, seed % 2**63)
    given_so_far = Counter()
    stream = mixed.rows()
    for block in range(1, 8):
        given_so_far += counts(islice(stream, block_size))
        for name, value in zip(names, values, strict=True):
            assert abs(given_so_far[name] - block * block_size * value / sum(values)) < 1


def test_sources_keep_their_own_order_and_start_over_in_it():
    rows = list(islice(mixture({"a": 5, "b": 3}, block_size=4), 40))
    for name, length in (("a", 5), ("b", 3)):
        numbers = [row["n"] for row in rows if row["source"] == name]
        assert numbers == [index % length for index in range(20)]


def test_block_size_one_is_the_even_order():
    rows = islice(mixture({"a": 9, "b": 9}, [2, 1], block_size=1), 9)
    assert "".join(row["source"] for row in rows) == "abaabaaba"


def test_equal_recipes_give_one_order_and_seeds_differ():
    def order(seed):
        return [row["source"] for row in islice(mixture({"a": 50, "b": 50}, None, 20, seed), 100)]

    assert order(42) == order(42)
    assert order(42)[20:] != order(43)[:80]  # data-layer notes §2.2: 43 was 42 shifted by a block
    assert len({"".join(order(seed)) for seed in range(5)}) == 5


def test_a_thousand_small_sources_all_get_their_rows():
    mixed = mixture({f"s{index}": 3 for index in range(1000)}, block_size=10)
    assert set(counts(islice(mixed, 1000)).values()) == {1}


# Stop policies


def test_restart_never_ends_and_an_epoch_is_the_sum_of_the_lengths():
    mixed = mixture({"a": 30, "b": 10}, stop="restart", block_size=10)
    assert len(mixed) == 40
    assert counts(islice(mixed, 1000)) == {"a": 500, "b": 500}


@pytest.mark.parametrize("policy", ["stop", "stop_strategy"])
def test_first_exhausted_is_the_longest_prefix_that_can_be_served(policy):
    mixed = mixture({"a": 30, "b": 10}, block_size=1, **{policy: "first_exhausted"})
    rows = list(mixed)
    # a b a b … : the 11th draw of b, at row 21, finds nothing.
    assert counts(rows) == {"a": 11, "b": 10}
    assert len(mixed) == 21
    endless = list(islice(mixture({"a": 30, "b": 10}, block_size=1), 22))
    assert rows == endless[:21]
    assert endless[21]["source"] == "b"


@pytest.mark.parametrize(("lengths", "block_size"), [((30, 10), 10), ((100, 8), 4), ((100, 8), 1000), ((1, 1), 1)])
def test_all_exhausted_gives_every_row_once_and_ends(lengths, block_size):
    # Defect 4: 30+10 rows in blocks of 10 span for ever after 40; 100+8 in blocks of 4 stopped after 18.
    mixed = mixture(dict(zip("ab", lengths, strict=True)), block_size=block_size, stop="all_exhausted")
    rows = list(mixed)
    assert len(mixed) == len(rows) == sum(lengths)
    for name, length in zip("ab", lengths, strict=True):
        assert [row["n"] for row in rows if row["source"] == name] == list(range(length))


def test_all_exhausted_restarts_the_integral_where_a_source_runs_out():
    rows = list(mixture({"a": 40, "b": 20, "c": 4}, [2, 1, 1], block_size=1, stop="all_exhausted"))
    end_of_c = max(index for index, row in enumerate(rows) if row["source"] == "c")
    # The next draw of c fails; from there a and b share 2:1, exact from that row on.
    start = next(i for i in range(end_of_c, end_of_c + 8) if exact_two_to_one(rows[i + 1 : i + 31]))
    assert start >= end_of_c


def exact_two_to_one(rows):
    return all(
        abs(counts(rows[:n])["a"] - n * 2 / 3) < 1 and abs(counts(rows[:n])["b"] - n / 3) < 1
        for n in range(1, len(rows) + 1)
    )


def test_sources_without_a_weight_are_never_read():
    mixed = mixture({"a": 5, "b": 5}, {"a": 1, "b": 0}, stop="all_exhausted")
    assert counts(mixed) == {"a": 5}
    assert len(mixed) == 5


def test_a_schedule_goes_on_among_those_left():
    points = [WeightSchedulePoint(0, {"a": 1.0, "b": 0.0}), WeightSchedulePoint(1000, {"a": 0.0, "b": 1.0})]
    mixed = mixture(
        {"a": 3, "b": 4}, weight_scheduler=WeightScheduler(points, unit="sample"), stop="all_exhausted", block_size=1
    )
    assert [row["source"] for row in mixed] == list("aaabbbb")


# Schedules and their clock


def test_a_step_is_a_step_of_the_trainer():
    mixed = mixture({"a": 50, "b": 50}, weight_scheduler=line(10), block_size=8)
    mixed.bind(rows_per_step=32)
    rows = list(islice(mixed, 640))
    # Σ_{s<10} (1 − s/10) = 5.5 steps of 32 rows; defect 13 had reached all-b after 10 rows.
    assert counts(rows[:320])["a"] == 176
    assert counts(rows[320:]) == {"b": 320}


def test_a_schedule_in_steps_needs_the_rows_of_a_step():
    with pytest.raises(MixtureError, match=r"how many rows a step has"):
        mixture({"a": 5, "b": 5}, weight_scheduler=line(10)).rows()


def test_the_clock_goes_on_after_resuming_without_binding_again():
    def build():
        return mixture({"a": 50, "b": 50}, weight_scheduler=line(10), block_size=8)

    bound = build()
    bound.bind(rows_per_step=4)
    stream = bound.rows()
    list(islice(stream, 21))
    assert list(islice(build().rows(stream.state()), 40)) == list(islice(stream, 40))


def test_a_clock_is_bound_once():
    mixed = mixture({"a": 5, "b": 5}, weight_scheduler=line(10))
    mixed.bind(rows_per_step=4)
    mixed.bind(rows_per_step=4)
    with pytest.raises(MixtureError, match="`rows_per_step` is 4 already and cannot become 8"):
        mixed.bind(rows_per_step=8)
    for wrong in (0, -1, 2.5, True):
        with pytest.raises(MixtureError, match="whole number >= 1"):
            mixed.bind(rows_per_step=wrong)


def test_tokens_as_a_clock():
    mixed = mixture({"a": 50, "b": 50}, weight_scheduler=line(100, unit="token"), block_size=1)
    mixed.bind(tokens_per_row=10)
    assert counts(islice(mixed, 10))["a"] in (5, 6)  # Σ_{r<10} (1 − r/10) = 5.5
    assert {row["source"] for row in islice(mixed, 11, 30)} == {"b"}


def test_a_schedule_goes_on_from_epoch_to_epoch():
    # Defect 13: the counter restarted with every epoch.
    mixed = mixture({"a": 20, "b": 20}, weight_scheduler=line(40, unit="sample"), block_size=8)
    assert counts(islice(mixed.shuffle(1, epoch=1), 40)) == {"b": 40}


def test_the_clock_counts_the_rows_that_earlier_epochs_really_had():
    mixed = mixture({"a": 30, "b": 10}, weight_scheduler=line(60, unit="sample"), stop="first_exhausted", block_size=1)
    first, second = (mixed.shuffle(1, epoch) for epoch in (0, 1))
    assert (len(first), len(second)) == (len(list(first)), len(list(second)))
    assert len(second) < len(first)  # b's share is larger by then, so its 10 rows are gone sooner


# Shuffling


def test_shuffling_reorders_rows_and_not_sources():
    mixed = mixture({"a": 40, "b": 40}, block_size=10)
    plain, shuffled = list(islice(mixed, 80)), list(islice(mixed.shuffle(1), 80))
    assert [row["source"] for row in plain] == [row["source"] for row in shuffled]
    assert plain != shuffled
    key = str
    assert sorted(plain, key=key) == sorted(shuffled, key=key)


def test_every_pass_source_and_epoch_is_shuffled_differently():
    mixed = mixture({"a": 40, "b": 40}, block_size=10)

    def orders(epoch):
        rows = list(islice(mixed.shuffle(1, epoch), 160))
        numbers = {name: [row["n"] for row in rows if row["source"] == name] for name in "ab"}
        return [tuple(numbers[name][start : start + 40]) for name in "ab" for start in (0, 40)]

    assert len(set(orders(0) + orders(1))) == 8


# Weight edits


@pytest.mark.parametrize("stop", ["restart", "all_exhausted", "first_exhausted"])
def test_a_mixture_of_mixtures_begins_every_epoch(stop):
    """An inner mixture's epoch number holds the outer epoch and the turn: it must not be counted up to."""
    inner = mixture({"a": 6, "b": 6}, [1, 1], block_size=4, stop=stop)
    outer = MixedShardedSource({"inner": inner, "c": rows_of("c", 12)}, [1, 1], block_size=4, stop="all_exhausted")
    epochs = [list(outer.shuffle(1, epoch).limit(24).rows()) for epoch in (0, 1, 2, 50)]
    assert len({str(rows) for rows in epochs}) == 4
    assert all(counts(rows) == counts(epochs[0]) for rows in epochs)


def test_the_clock_of_an_inner_mixture_counts_outer_epochs_and_turns():
    inner = mixture({"a": 8, "b": 8}, weight_scheduler=line(16, "sample"), block_size=4)
    outer = MixedShardedSource({"inner": inner, "c": rows_of("c", 16)}, [1, 1], block_size=4)
    first, later = (counts(outer.shuffle(1, epoch).limit(32).rows()) for epoch in (0, 1))
    assert first == {"a": 8, "b": 8, "c": 16}  # the schedule goes from a to b in one epoch
    assert later == {"b": 16, "c": 16}


def test_an_edit_takes_effect_at_its_row_and_is_journalled():
    mixed = mixture({"a": 50, "b": 50}, block_size=8)
    mixed.edit_weights({"a": 1, "b": 3}, from_row=20)
    rows = list(islice(mixed, 60))
    assert counts(rows[:20]) == {"a": 10, "b": 10}  # the block that ends early is exact too
    assert counts(rows[20:]) == {"a": 10, "b": 30}
    assert mixed.journal == [{"from_row": 20, "weights": {"a": 1, "b": 3}}]


def test_an_edit_while_reading_starts_with_the_next_rows_planned_and_replays():
    def build():
        return mixture({"a": 50, "b": 50}, block_size=300)

    mixed = build()
    stream = mixed.rows()
    rows = list(islice(stream, 5))
    edit = mixed.edit_weights({"a": 0, "b": 1})
    assert edit.from_row == 300
    rows += islice(stream, 395)
    state = stream.state()
    assert counts(rows) == {"a": 150, "b": 250}
    assert list(islice(build().rows(state), 20)) == list(islice(stream, 20))
    replayed = build()
    for entry in state["journal"]:
        replayed.edit_weights(entry["weights"], from_row=entry["from_row"])
    assert list(islice(replayed, 400)) == rows


def test_edits_count_rows_over_all_epochs():
    mixed = mixture({"a": 20, "b": 20}, block_size=10)
    mixed.edit_weights({"a": 0, "b": 1}, from_row=60)
    second = list(islice(mixed.shuffle(1, epoch=1), 40))  # rows 40 to 79
    assert counts(second[:20]) == {"a": 10, "b": 10}
    assert counts(second[20:]) == {"b": 20}


def test_edits_lose_and_repeat_nothing():
    mixed = mixture({"a": 50, "b": 50}, block_size=8, stop="all_exhausted")
    mixed.edit_weights({"a": 5, "b": 1}, from_row=13)
    mixed.edit_weights({"a": 1, "b": 9}, from_row=31)
    rows = list(mixed)
    assert len(mixed) == len(rows) == 100
    assert [row["n"] for row in rows if row["source"] == "a"] == list(range(50))


def test_what_cannot_be_edited():
    mixed = mixture({"a": 50, "b": 50}, block_size=300)
    next(mixed.rows())
    with pytest.raises(MixtureError, match="order is already settled up to row 300"):
        mixed.edit_weights({"a": 1, "b": 1}, from_row=3)
    with pytest.raises(MixtureError, match="'c' match no source"):
        mixed.edit_weights({"a": 1, "b": 1, "c": 1})
    mixed.edit_weights({"a": 1, "b": 2}, from_row=330)
    with pytest.raises(MixtureError, match="Row 330 has the weights"):
        mixed.edit_weights({"a": 1, "b": 5}, from_row=330)


def test_a_state_that_knows_nothing_of_an_edit_is_refused():
    stream = mixture({"a": 50, "b": 50}, block_size=8).rows()
    list(islice(stream, 20))
    edited = mixture({"a": 50, "b": 50}, block_size=8)
    edited.edit_weights({"a": 1, "b": 2}, from_row=10)
    with pytest.raises(MixtureError, match="knows nothing of the weight edit at row 10"):
        edited.rows(stream.state())


# States of other mixtures


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 1}, "another `seed`: 42 there, 1 here"),
        ({"block_size": 7}, "another `block_size`: 8 there, 7 here"),
        ({"stop": "all_exhausted"}, "another `stop`"),
        ({"weights": [1, 2]}, r"another `shares`.*use edit_weights\(\)"),
    ],
)
def test_a_state_of_another_mixture_is_refused(options, message):
    state = mixture({"a": 5, "b": 5}, block_size=8).rows().state()
    with pytest.raises(MixtureError, match=message):
        mixture({"a": 5, "b": 5}, **{"block_size": 8, **options}).rows(state)


def test_a_state_of_other_sources_is_refused():
    state = mixture({"a": 5, "b": 5}).rows().state()
    for lengths in ({"a": 5}, {"a": 5, "b": 5, "c": 5}):
        with pytest.raises(MixtureError, match="saved by a mixture of 'a', 'b'"):
            mixture(lengths).rows(state)
    with pytest.raises(MixtureError, match="not the state of a mixture"):
        mixture({"a": 5}).rows({"shard": 0, "row": 3})


def test_states_are_small():
    stream = mixture({"a": 500, "b": 500}).rows()
    list(islice(stream, 700))
    assert len(str(stream.state())) < 700


def test_restoring_reads_no_rows_given_before():
    reads = []

    class Watched(MemoryShardedSource):
        def read_shard(self, shard, position):
            reads.append(position["row"])
            return super().read_shard(shard, position)

    def build():
        return MixedShardedSource({"a": Watched(rows_of("a", 100_000), name="a")})

    stream = build().rows()
    stream.skip(90_000)
    state = stream.state()
    reads.clear()
    assert next(build().rows(state)) == {"source": "a", "n": 90_000}
    assert min(reads) >= 88_976  # at most a chunk of 1,024 rows before


# Refusals at construction


@pytest.mark.parametrize(
    ("sources", "options", "message"),
    [
        ({}, {}, "nothing to mix"),
        ({"a": []}, {}, "'a' is empty"),
        ({"a": [{"n": 1}]}, {"weights": {"b": 1}}, "'b' match no source"),
        ({"a": [{"n": 1}]}, {"weights": {"a": 0}}, "All weights are 0"),
        ({"a": [{"n": 1}]}, {"block_size": 0}, "`block_size` must be a whole number of rows >= 1; found 0"),
        ({"a": [{"n": 1}]}, {"stop": "never"}, "`stop` must be one of 'restart', 'first_exhausted', 'all_exhausted'"),
        ({"a": [{"n": 1}]}, {"stop": "all_exhausted", "stop_strategy": "first_exhausted"}, "give one of them"),
        ({"a": [{"n": 1}]}, {"seed": None}, "`seed` must be a whole number"),
        ({"a": [{"n": 1}], "b": [{"n": 1}]}, {"weights": [1, 1], "weight_scheduler": line(3)}, "not both"),
        ({"x": [{"n": 1}]}, {"weight_scheduler": line(3)}, "'a', 'b' match no source; 'x' have no weight"),
        ({"a": [{"n": 1}]}, {"weight_scheduler": {"a": 1}}, "must be a WeightScheduler; found dict"),
        ({1: [{"n": 1}]}, {}, "Names of sources must be strings; found 1"),
        ("ab", {}, "must be a dict of name -> data set"),
    ],
)
def test_bad_mixtures_are_refused_before_reading(sources, options, message):
    with pytest.raises(MixtureError, match=message):
        MixedShardedSource(sources, **options)


def test_an_empty_file_is_refused_before_reading(tmp_path):
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(MixtureError, match="'a' is empty"):
        MixedShardedSource({"a": tmp_path / "empty.jsonl"})


def test_something_that_is_no_data_set_is_refused_with_its_name():
    with pytest.raises(TypeError, match="not a data set") as caught:
        MixedShardedSource({"good": [{"n": 1}], "bad": 7})
    assert caught.value.__notes__ == ["while preparing the source 'bad' of a mixture"]


def test_a_source_that_turns_out_empty_raises_instead_of_spinning():
    # Data-layer notes §2.4: an empty source under restart span for ever.
    mixed = MixedShardedSource({"a": MemoryShardedSource(rows_of("a", 5)).filter(lambda row: False)})
    with pytest.raises(MixtureError, match="'a' has no rows"):
        next(mixed.rows())


def test_the_length_of_an_unknown_source_says_what_to_do():
    mixed = MixedShardedSource({"a": MemoryShardedSource(rows_of("a", 5)).filter(bool)})
    with pytest.raises(TypeError, match="max_training_steps"):
        len(mixed)


# Rows


def test_provenance_names_the_source_in_rows_and_batches():
    mixed = mixture({"a": 3, "b": 3}, stop="all_exhausted", provenance=True)
    assert all(row["__source__"] == row["source"] for row in mixed)
    batch = next(mixed.batches(6))
    assert batch["__source__"].to_pylist() == batch["source"].to_pylist()
    assert "__source__" not in next(mixture({"a": 3}).rows())


def test_columns_may_differ():
    mixed = MixedShardedSource({"a": [{"text": "x"}], "b": [{"prompt": "p", "k": 1}]}, block_size=2, seed=1)
    assert sorted(map(sorted, islice(mixed, 2))) == [["k", "prompt"], ["text"]]
    assert sorted(next(mixed.batches(2)).schema.names) == ["k", "prompt", "text"]


def test_columns_of_clashing_types_are_named():
    mixed = MixedShardedSource({"a": [{"n": 1}], "b": [{"n": "one"}]}, block_size=2)
    with pytest.raises(DataError, match="n"):
        next(mixed.batches(2))


def test_errors_name_the_source_and_its_row():
    class Refuse(BatchTransform):
        def transform_batch(self, rows):
            for index, row in enumerate(rows):
                if row["source"] == "b" and row["n"] == 2:
                    raise RowError("bad", row_in_batch=index)
            return [[row] for row in rows]

    with pytest.raises(DataError, match=r"b \(source 'b' of a mixture\)\n  row: 2"):
        list(islice(mixture({"a": 9, "b": 9}, block_size=4).transform(Refuse()), 18))


@pytest.mark.parametrize("columns", [False, True])
def test_a_stream_that_failed_fails_again_and_loses_no_row(columns):
    broken = [True]

    def check(row):
        if row["n"] == 300 and broken[0]:
            raise OSError("the network is down")
        return row

    mixed = MixedShardedSource(
        {"a": MemoryShardedSource(rows_of("a", 500)).map(check), "b": rows_of("b", 500)},
        block_size=100,
        stop="all_exhausted",
    )
    whole = list(mixture({"a": 500, "b": 500}, block_size=100, stop="all_exhausted"))
    stream = mixed.batches(64) if columns else mixed.rows()
    read = []

    def read_on():
        for item in stream:
            read.extend(item.to_pylist() if columns else [item])

    for _ in range(2):
        with pytest.raises(OSError, match="network"):
            read_on()
    broken[0] = False
    read_on()
    assert read == whole


def test_mixtures_of_mixtures():
    inner = mixture({"a": 4, "b": 2}, [2, 1], block_size=1, stop="all_exhausted")
    outer = MixedShardedSource({"inner": inner, "c": rows_of("c", 6)}, block_size=1, stop="all_exhausted")
    rows = list(outer)
    assert counts(rows) == {"a": 4, "b": 2, "c": 6}
    assert all(left["source"] != right["source"] for left, right in pairwise(rows) if "c" in (left, right))


# Endless mixtures inside other sources


def endless():
    return mixture({"a": 10, "b": 7})


def test_a_limit_of_an_endless_mixture_has_as_many_rows_as_it_says():
    limited = endless().limit(300)
    assert (len(limited), limited.is_endless) == (300, False)
    assert len(list(limited)) == sum(batch.num_rows for batch in limited.batches(64)) == 300
    assert len(endless().limit(0)) == 0
    assert (limited.rows().skip(280), limited.rows().skip(999)) == (280, 300)
    for chained in (limited.map(dict), limited.shuffle(1), CompositeShardedSource([limited])):
        assert (len(chained), len(list(chained)), chained.is_endless) == (300, 300, False)
    shares = [limited.shard(index, 2, window=4) for index in range(2)]
    assert [(len(share), len(list(share))) for share in shares] == [(152, 152), (148, 148)]


@pytest.mark.parametrize("stop", ["all_exhausted", "first_exhausted"])
def test_a_limited_endless_mixture_inside_another_is_read_to_its_end(stop):
    outer = MixedShardedSource({"x": endless().limit(300), "y": rows_of("y", 150)}, [2, 1], stop=stop, block_size=3)
    assert len(outer) == len(list(outer)) == outer.rows().skip(10**6) == 450
    assert outer.simulate(450).rows == {"x": 300, "y": 150}


def test_whatever_wraps_an_endless_mixture_is_endless():
    for source in (
        endless().shard(0, 2),
        endless().filter(bool),
        endless().shuffle(1),
        endless().shard(1, 2).shuffle(2),
        CompositeShardedSource([MemoryShardedSource(rows_of("c", 3)), endless()]),
        MixedShardedSource({"x": endless(), "y": rows_of("y", 5)}, stop="all_exhausted"),
    ):
        assert source.is_endless
        assert len(list(source.limit(64))) == len(source.limit(64)) == source.limit(64).rows().skip(99) == 64
    assert len(MixedShardedSource({"x": endless(), "y": rows_of("y", 5)}, stop="all_exhausted")) == 17 + 5


def test_a_mixture_ends_with_the_first_source_that_ends_though_others_never_do():
    mixed = MixedShardedSource({"x": endless(), "y": rows_of("y", 5)}, stop="first_exhausted", block_size=4)
    assert not mixed.is_endless
    assert len(mixed) == len(list(mixed)) == mixed.rows().skip(99) == mixed.simulate(99).total_rows == 11
    assert len(list(mixed.shard(0, 2, window=1))) == 6


def test_a_source_behind_an_endless_one_is_refused():
    with pytest.raises(DataError, match=r"Source 0 of a composite never ends.*1 behind it(.|\n)*limit"):
        CompositeShardedSource([endless(), MemoryShardedSource(rows_of("c", 3))])


@pytest.mark.parametrize("weight_by", ["row", "token"])
def test_provenance_overwrites_no_field_and_what_failed_fails_again(weight_by):
    own = [{"input_ids": [n], "n": n, **({"__source__": "mine"} if n == 5 else {})} for n in range(8)]
    other = [{"input_ids": [n], "n": 100 + n} for n in range(8)]
    mixed = MixedShardedSource(
        {"a": own, "b": other}, provenance=True, weight_by=weight_by, block_size=4, stop="all_exhausted"
    )
    stream = mixed.rows()
    for _ in range(2):
        with pytest.raises(MixtureError, match=r"source 'a' have a field '__source__'(.|\n)*rename_fields"):
            list(stream)
    renamed = MemoryShardedSource(own).rename_fields({"__source__": "origin"})
    rest = MixedShardedSource(
        {"a": renamed, "b": other}, provenance=True, weight_by=weight_by, block_size=4, stop="all_exhausted"
    ).rows(stream.state())
    assert {"n": 5, "origin": "mine", "__source__": "a", "input_ids": [5]} in list(rest)


def test_a_mixture_names_the_files_of_its_sources(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"n": 1}\n')
    mixed = MixedShardedSource({"a": str(tmp_path / "a.jsonl"), "b": rows_of("b", 2)}, stop="all_exhausted")
    for view in (mixed, mixed.shuffle(1), mixed.limit(2).map(dict).shard(0, 2)):
        assert [file.url for file in view.data_files()] == [str(tmp_path / "a.jsonl")]


@pytest.mark.parametrize("block_size", [1, 4, 37, 1000])
@pytest.mark.parametrize("skipping", [False, True])
def test_an_edit_in_the_middle_of_reading_gives_the_order_of_one_known_before(block_size, skipping):
    def make():
        sources = {name: [{"id": f"{name}{index}"} for index in range(4000)] for name in "abc"}
        return MixedShardedSource(sources, {"a": 3, "b": 2, "c": 1}, block_size=block_size)

    edited = make()
    stream = edited.rows()
    read = stream.skip(70) if skipping else len(list(islice(stream, 70)))
    edit = edited.edit_weights({"a": 1, "b": 1, "c": 4})
    saved = stream.state()
    known = make()
    known.edit_weights(edit.weights, from_row=edit.from_row)
    expected = list(islice(known.rows(), read, 3000))
    assert list(islice(stream, len(expected))) == expected
    assert list(islice(make().rows(saved), len(expected))) == expected
