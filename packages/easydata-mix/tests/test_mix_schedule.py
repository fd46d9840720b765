"""Schedules: points, interpolation, clocks, and the closed form of their integrals."""

import math
from itertools import pairwise

import pytest
from easydata_mix import MixtureError, WeightSchedulePoint, WeightScheduler
from easydata_mix.plan import cosine
from easydata_mix.plan.schedule import schedule_curve
from easydata_mix.plan.share_curve import HORIZON, ShareCurve
from easydata_mix.plan.weights import exact_shares
from hypothesis import given, settings
from hypothesis import strategies as st

NAMES = ["easy", "hard"]


def point(step, easy, hard=None):
    return WeightSchedulePoint(step=step, weights={"easy": easy, "hard": 1 - easy if hard is None else hard})


def test_weights_hold_before_the_first_and_after_the_last_point():
    scheduler = WeightScheduler([point(10, 0.75), point(20, 0.25)], "linear")
    assert scheduler.get_weights(0) == {"easy": 0.75, "hard": 0.25}
    assert scheduler.get_weights(999) == {"easy": 0.25, "hard": 0.75}


@pytest.mark.parametrize(
    ("interpolation", "quarter", "half"),
    # cosine at a quarter: (1 − cos 45°)/2 = 0.146447
    [("step", 1.0, 1.0), ("linear", 0.75, 0.5), ("cosine", 1 - 0.14644660940672624, 0.5)],
)
def test_interpolations_by_hand(interpolation, quarter, half):
    scheduler = WeightScheduler([point(0, 1.0), point(100, 0.0)], interpolation)
    assert scheduler.get_weights(25)["easy"] == pytest.approx(quarter)
    assert scheduler.get_weights(50)["easy"] == pytest.approx(half)
    assert scheduler.get_weights(100) == {"easy": 0.0, "hard": 1.0}


def test_points_may_come_in_any_order():
    scheduler = WeightScheduler([point(20, 0.0), point(0, 1.0)])
    assert [p.step for p in scheduler.schedule] == [0, 20]
    assert scheduler.dataset_names == NAMES


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WeightScheduler([]), "schedule is empty"),
        (lambda: WeightScheduler([point(0, 1.0)], "bezier"), "`interpolation` must be one of 'step', 'linear', 'cos"),
        (lambda: WeightScheduler([point(0, 1.0)], unit="epoch"), "`unit` must be one of 'step', 'sample', 'token'"),
        (lambda: WeightScheduler([point(5, 1.0), point(5, 0.0)]), "two points at step 5"),
        (
            lambda: WeightScheduler([point(0, 1.0), WeightSchedulePoint(9, {"easy": 1.0})]),
            "same sources: step 0 has 'easy', 'hard', step 9 has 'easy'",
        ),
        (lambda: point(0, 0.9, 0.9), "must sum to 1.*sum to 1.8"),
        (lambda: point(0, 1.5, -0.5), "step 0 of 'hard' is -0.5; a weight cannot be negative"),
        (lambda: point(0, math.nan, 1.0), "must be finite"),
        (lambda: point(-1, 1.0), "step must be a whole number >= 0; found -1"),
        (lambda: WeightSchedulePoint(0, {}), "must map source names"),
    ],
)
def test_bad_schedules_are_refused(make, message):
    with pytest.raises(MixtureError, match=message):
        make()


def test_a_schedule_that_names_other_sources_is_refused():
    # Defect 13: no name matched, 0/0 became counts of −9.2e18.
    with pytest.raises(MixtureError, match="'easy', 'hard' match no source; 'a', 'b' have no weight"):
        WeightScheduler([point(0, 1.0)]).points_for(["a", "b"])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(0, 10)), min_size=1, max_size=4),
    st.sampled_from(["step", "linear", "cosine"]),
    st.sampled_from([1, 4]),
)
def test_the_closed_form_is_the_sum_of_the_weights_of_the_rows(stages, interpolation, rows_per_tick):
    tick, points = 0, []
    for span, tenths in stages:
        points.append(WeightSchedulePoint(tick, {"easy": tenths / 10, "hard": (10 - tenths) / 10}))
        tick += span
    scheduler = WeightScheduler(points, interpolation)
    curve = ShareCurve(scheduler.points_for(NAMES), interpolation=interpolation, rows_per_tick=rows_per_tick)
    total = 0.0
    for row in range((tick + 5) * rows_per_tick):
        assert curve.cumulative(row)[0] / curve.unit == pytest.approx(total, abs=1e-9)
        assert curve.cumulative_of(0, row) == curve.cumulative(row)[0]
        total += scheduler.get_weights(row // rows_per_tick)["easy"]


def test_the_integral_of_a_billion_steps_is_exact():
    points = [(0, exact_shares([1, 0], NAMES)), (10**9, exact_shares([0, 1], NAMES))]
    for interpolation in ("linear", "cosine"):
        curve = ShareCurve(points, interpolation=interpolation, rows_per_tick=32)
        easy, hard = curve.cumulative(32 * 10**9)
        # Σ_{s<n} (1 − s/n) = (n + 1)/2 for the line, and by symmetry for the cosine too.
        assert easy / curve.unit == pytest.approx(32 * (10**9 + 1) / 2, rel=1e-15)
        assert easy + hard == 32 * 10**9 * curve.unit


@pytest.mark.parametrize("span", [1, 2, 7, 1000])
def test_cosine_sums_agree_with_adding_up(span):
    total = 0.0
    for ticks in range(span + 1):
        assert cosine.ramp_sum(ticks, span) / 2**cosine.PRECISION == pytest.approx(total, abs=1e-9)
        total += (1 - math.cos(ticks * math.pi / span)) / 2


def test_cosine_sums_never_fall_or_outrun_their_ticks():
    one = 1 << cosine.PRECISION
    for span, start in [(10**12, 0), (10**12, 10**12 - 50), (10**12, 10**12 // 2), (9, 0)]:
        sums = [cosine.ramp_sum(ticks, span) for ticks in range(start, min(start + 50, span) + 1)]
        assert all(0 <= after - before <= one for before, after in pairwise(sums))


def test_when_an_integral_reaches_a_row():
    curve = ShareCurve([(0, exact_shares([1, 3], NAMES))])
    # A quarter of the rows: 5 of them after 20 rows, i.e. 18 rows after row 2; in strides of 4 from 2: 2, 6, … 22.
    assert curve.reaches(0, 5 * curve.unit, start=2, stride=1) == 18
    assert curve.reaches(0, 5 * curve.unit, start=2, stride=4) == 5
    never = ShareCurve([(0, exact_shares([0, 1], NAMES))])
    assert never.reaches(0, never.unit, start=0, stride=1) == HORIZON


def test_clocks():
    points = WeightScheduler([point(0, 1.0), point(10, 0.0)]).points_for(NAMES)

    def rows_of_easy(unit, **clock):
        rates = {"rows_per_step": None, "tokens_per_row": None, **clock}
        curve = schedule_curve(points, "step", unit, **rates)
        return curve.cumulative(10_000)[0] / curve.unit

    assert rows_of_easy("sample") == 10
    assert rows_of_easy("step", rows_per_step=32) == 320  # defect 13: 'step' counted rows
    assert rows_of_easy("token", tokens_per_row=4) == 3  # the first row that starts at token 10 or later is row 3
    with pytest.raises(MixtureError, match=r"how many rows a step has.*bind\(rows_per_step="):
        rows_of_easy("step")
    with pytest.raises(MixtureError, match=r"how many tokens a row has.*bind\(tokens_per_row="):
        rows_of_easy("token")
