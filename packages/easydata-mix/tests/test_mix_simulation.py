"""simulate(): what a mixture will give, compared with what it gives."""

from collections import Counter
from itertools import islice

import pytest
from easydata_mix import MixedShardedSource, MixtureError, WeightSchedulePoint, WeightScheduler
from easydata_sources import MemoryShardedSource
from hypothesis import given, settings
from hypothesis import strategies as st


def mixture(lengths, **options):
    sources = {name: [{"source": name}] * length for name, length in lengths.items()}
    return MixedShardedSource(sources, **options)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40)),
    st.lists(st.sampled_from([0.1, 1, 3]), min_size=3, max_size=3),
    st.sampled_from([1, 5, 16]),
    st.sampled_from(["restart", "first_exhausted", "all_exhausted"]),
    st.integers(0, 150),
)
def test_a_simulation_counts_exactly_what_reading_gives(lengths, weights, block_size, stop, rows):
    mixed = mixture(dict(zip("abc", lengths, strict=True)), weights=weights, block_size=block_size, stop=stop)
    read = Counter(row["source"] for row in islice(mixed, rows))
    forecast = mixed.simulate(rows)
    assert forecast.rows == {name: read[name] for name in "abc"}
    assert forecast.total_rows == read.total()
    assert forecast.ended == (read.total() < rows)


def test_epochs_and_tokens():
    forecast = mixture({"a": 4, "b": 8}, weights=[3, 1], block_size=4).simulate(
        4, rows_per_step=4, lengths={"a": [1, 2, 3, 4], "b": 2.5}
    )
    assert forecast.rows == {"a": 12, "b": 4}
    assert forecast.epochs == {"a": 3.0, "b": 0.5}
    assert forecast.tokens == {"a": 30, "b": 10}


def test_a_billion_rows_take_no_reading_and_no_time():
    forecast = mixture({"a": 3, "b": 5}, weights=[0.7, 0.3]).simulate(10**9)
    assert forecast.rows == {"a": 700_000_000, "b": 300_000_000}


def test_a_simulation_of_a_schedule_binds_nothing():
    points = [WeightSchedulePoint(0, {"a": 1.0, "b": 0.0}), WeightSchedulePoint(10, {"a": 0.0, "b": 1.0})]
    mixed = mixture({"a": 9, "b": 9}, weight_scheduler=WeightScheduler(points, "linear"), block_size=8)
    assert mixed.simulate(20, rows_per_step=8).rows == {"a": 44, "b": 116}  # 5.5 steps of a
    mixed.bind(rows_per_step=16)


def test_a_plot_shows_every_moment():
    plot = mixture({"easy": 9, "hard": 9}, weights=[3, 1], block_size=4).simulate(40, points=4).plot(width=8)
    assert plot.splitlines() == ["█ easy", "▓ hard"] + [f"{step:>10} ██████▓▓" for step in (10, 20, 30, 40)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": -1}, "steps >= 0"),
        ({"steps": 1, "lengths": {"a": 3}}, "says nothing of 'b'"),
        ({"steps": 1, "lengths": {"a": 3, "b": []}}, "is empty"),
    ],
)
def test_bad_questions_are_refused(arguments, message):
    with pytest.raises(MixtureError, match=message):
        mixture({"a": 3, "b": 3}).simulate(**arguments)


def test_unknown_lengths_are_enough_only_for_restart():
    source = MemoryShardedSource([{"n": 1}]).filter(bool)
    assert MixedShardedSource({"a": source}).simulate(5).epochs == {"a": None}
    with pytest.raises(MixtureError, match="lengths of the sources, and those of 'a' are unknown"):
        MixedShardedSource({"a": source}, stop="all_exhausted").simulate(5)


@pytest.mark.parametrize("stop", ["restart", "first_exhausted", "all_exhausted"])
@pytest.mark.parametrize("block_size", [1, 7])
def test_decisions_are_the_sources_of_the_rows_that_are_read(stop, block_size):
    sources = {name: [{"n": name}] * length for name, length in {"a": 20, "b": 9, "c": 3}.items()}
    mixture = MixedShardedSource(sources, [5, 2, 1], block_size=block_size, stop=stop)
    decided = [mixture.names[source] for order in mixture.decisions(50) for source in order]
    assert decided == [row["n"] for row in islice(mixture, 50)]
