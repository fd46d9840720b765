"""Quotas: within one row of the integral at every block boundary, never backwards."""

from fractions import Fraction

from easydata_mix.plan.clock import Clock
from easydata_mix.plan.planner import Planner
from easydata_mix.plan.schedule import ShareCurves, static_curves
from easydata_mix.plan.weight_edits import Journal
from easydata_mix.plan.weights import exact_shares
from hypothesis import given, settings
from hypothesis import strategies as st

weight = st.one_of(st.just(0), st.sampled_from([1, 2, 7, 0.5, 0.005, 1e-6]), st.floats(0, 1))
weights = st.lists(weight, min_size=1, max_size=7).filter(any)


def planner(curves, sources, block_size, journal=None):
    names = [str(index) for index in range(sources)]
    return Planner(sources, curves, journal=journal or Journal(names), block_size=block_size, seed=0)


def totals_by_block(plan, blocks):
    begin, found = plan.start(), []
    for _ in range(blocks):
        block = plan.block(begin)
        assert min(block.quotas) >= 0
        assert sorted(block.order.tolist()) == [i for i, quota in enumerate(block.quotas) for _ in range(quota)]
        found.append((block.stop, block.totals))
        begin = plan.after(block)
    return found


@settings(max_examples=60, deadline=None)
@given(weights, st.sampled_from([1, 2, 3, 10, 100]))
def test_constant_weights_stay_within_one_row_of_their_integral(values, block_size):
    shares = exact_shares(values, [str(index) for index in range(len(values))])
    for rows, totals in totals_by_block(planner(static_curves(shares), len(values), block_size), 40):
        assert sum(totals) == rows
        assert all(abs(total - rows * share) < 1 for total, share in zip(totals, shares, strict=True))


@st.composite
def schedules(draw):
    sources = draw(st.integers(1, 6))
    names = [str(index) for index in range(sources)]
    spans = draw(st.lists(st.sampled_from([1, 2, 5, 30, 400]), min_size=0, max_size=3))
    ticks = [draw(st.sampled_from([0, 0, 4]))]
    for span in spans:
        ticks.append(ticks[-1] + span)
    row = st.lists(weight, min_size=sources, max_size=sources).filter(any)
    points = [(tick, exact_shares(draw(row), names)) for tick in ticks]
    interpolation = draw(st.sampled_from(["step", "linear", "cosine"]))
    clock = Clock(rows_per_step=draw(st.sampled_from([1, 3, 32])))
    return ShareCurves(points=tuple(points), interpolation=interpolation, unit="step", clock=clock), sources


@settings(max_examples=80, deadline=None)
@given(schedules(), st.sampled_from([1, 2, 7, 50]))
def test_any_schedule_stays_within_one_row_of_its_integral(schedule, block_size):
    curves, sources = schedule
    curve = curves.among(tuple(range(sources)))
    for rows, totals in totals_by_block(planner(curves, sources, block_size), 60):
        exact = curve.cumulative(rows)
        assert sum(totals) == rows
        assert sum(exact) == rows * curve.unit
        assert all(abs(total * curve.unit - part) < curve.unit for total, part in zip(totals, exact, strict=True))


def test_nothing_drifts_over_a_billion_rows():
    names = [str(index) for index in range(7)]
    shares = exact_shares([0.1, 0.2, 0.3, 1 / 3, 1e-9, 0.7, 1e-17], names)
    curve = static_curves(shares).among(tuple(range(7)))
    rows = 10**9 * 3 + 7
    assert [Fraction(part, curve.unit) for part in curve.cumulative(rows)] == [rows * share for share in shares]


def test_seven_equal_sources_share_the_remainder_fairly():
    # Defect 12 of the data-layer notes: rounding each block alone gave 4/1/1/1/1/1/1 in every block of 10.
    shares = exact_shares(None, [str(index) for index in range(7)])
    found = totals_by_block(planner(static_curves(shares), 7, 10), 7)
    assert max(found[0][1]) - min(found[0][1]) == 1  # 10 = 3·2 + 4·1
    assert found[-1] == (70, (10,) * 7)


def test_a_small_weight_is_not_starved():
    # Defect 12: a weight of 0.005 in blocks of 100 rounded to 0 rows for ever. It is due one row in 200.
    shares = exact_shares([0.995, 0.005], ["big", "small"])
    found = dict(totals_by_block(planner(static_curves(shares), 2, 100), 20))
    assert found[2000] == (1990, 10)
    assert all(abs(totals[1] - rows / 200) < 1 for rows, totals in found.items())


def test_largest_remainders_would_go_backwards_and_these_do_not():
    # Shares 6/13, 6/13, 1/13, block 1. Largest remainder gives the small one its row at n = 5 (5/13 owed against 4/13)
    # and would have to take it back at n = 6 (6/13 against 10/13 twice).
    shares = exact_shares([6, 6, 1], ["a", "b", "c"])
    found = [totals for _, totals in totals_by_block(planner(static_curves(shares), 3, 1), 13)]
    assert found[-1] == (6, 6, 1)


def test_jumping_over_whole_periods_lands_where_walking_does():
    shares = exact_shares([3, 2, 2], ["a", "b", "c"])
    plan = planner(static_curves(shares), 3, 4)
    walked = plan.start()
    for _ in range(14):  # lcm(7, 4) = 28 rows, twice
        walked = plan.after(plan.block(walked))
    assert plan.jump(plan.start(), 60) == walked
