"""The order inside a block: seeded, stable over versions, and unrelated between seeds."""

import numpy as np
import pytest
from easydata_mix import MixtureError
from easydata_mix.plan.block_order import block_order, check_seed, first_unserved
from easydata_mix.plan.planner import Planner
from easydata_mix.plan.schedule import static_curves
from easydata_mix.plan.weight_edits import Journal
from easydata_mix.plan.weights import exact_shares
from hypothesis import given, settings
from hypothesis import strategies as st


def test_an_order_holds_every_source_as_often_as_its_quota():
    order = block_order([3, 0, 2], seed=1, row=0)
    assert np.bincount(order, minlength=3).tolist() == [3, 0, 2]


def test_the_order_never_changes_between_versions():
    # Written down from the first release: a change of this line reorders every user's run.
    assert block_order([4, 3, 3], seed=42, row=1000).tolist() == FIRST_RELEASE


def test_a_seed_is_not_its_neighbour_shifted_by_a_block():
    # Data-layer notes §2.2: seed 43 was seed 42 one block later.
    def blocks(seed):
        return [tuple(block_order([50, 50], seed=seed, row=row * 100).tolist()) for row in range(20)]

    assert not set(blocks(42)) & set(blocks(43))
    agreement = np.mean(np.concatenate(blocks(42)) == np.concatenate(blocks(43)))
    assert 0.45 < agreement < 0.55  # two fair coins: 0.5 ± 0.011


def test_blocks_of_one_seed_differ():
    assert block_order([50, 50], seed=0, row=0).tolist() != block_order([50, 50], seed=0, row=100).tolist()


def test_the_shuffle_is_fair_over_positions():
    first = [int(block_order([1, 1, 2], seed=7, row=row)[0]) for row in range(4000)]
    assert np.bincount(first) / 4000 == pytest.approx([0.25, 0.25, 0.5], abs=0.03)


@pytest.mark.parametrize("seed", [None, -1, 1 << 64, 0.5, True])
def test_bad_seeds_are_refused(seed):
    with pytest.raises(MixtureError, match="`seed` must be a whole number"):
        check_seed(seed)


def test_seed_zero_is_a_seed():
    # Defect 30: `seed or default` dropped it.
    assert check_seed(0) == 0


def test_the_first_draw_that_cannot_be_served():
    order = np.array([0, 1, 0, 1, 0])
    assert first_unserved(order, [3, 2]) is None
    assert first_unserved(order, [2, 5]) == (4, 0)
    assert first_unserved(order, [2, 0]) == (1, 1)


FIRST_RELEASE = [1, 2, 0, 0, 0, 1, 2, 1, 0, 2]


@settings(max_examples=60, deadline=None)
@given(
    weights=st.lists(st.sampled_from([0, 1, 2, 0.3, 0.07, 5, 1 / 3, 0.123456]), min_size=1, max_size=6),
    start=st.integers(0, 60),
    rows=st.integers(1, 90),
    edit=st.none() | st.integers(1, 100),
)
def test_rows_planned_together_are_those_planned_one_by_one(weights, start, rows, edit):
    if not any(weights):
        weights = [*weights, 1]
    names = [str(index) for index in range(len(weights))]
    journal = Journal(names)
    if edit is not None:
        journal.add(edit, dict(zip(names, [*weights[1:], 3], strict=True)))
    planner = Planner(len(names), static_curves(exact_shares(weights, names)), journal=journal, block_size=1, seed=0)

    def one_by_one(begin, count):
        order = []
        for _ in range(count):
            block = planner.block(begin)
            order += block.order.tolist()
            begin = planner.after(block)
        return order, begin

    _, begin = one_by_one(planner.start(), start)
    step = planner.even_step(begin, rows)
    order, after = one_by_one(begin, len(step.order))
    assert step.order.tolist() == order
    assert step.position_after(len(order)).begin == after
    half = len(order) // 2
    assert step.position_after(half).begin == one_by_one(begin, half)[1]


def test_large_seeds_that_are_neighbours_give_orders_of_their_own():
    # As floats 2**63, 2**63 + 1 and 2**63 + 1024 are one number.
    for base in (2**53, 2**63, 2**64 - 1025):
        orders = {tuple(block_order([50, 50], seed=base + more, row=0).tolist()) for more in (0, 1, 2, 512, 1024)}
        assert len(orders) == 5
    assert len({tuple(block_order([50, 50], seed=2**63, row=row).tolist()) for row in range(2**53, 2**53 + 5)}) == 5
