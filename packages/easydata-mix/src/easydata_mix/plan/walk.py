"""Walking a plan by known lengths, of sources or of rows: where it ends, and what each source has given by then.

Stop policies, all phrased by the first draw that finds its source empty:

- `restart`: the source starts over; the mixture never ends.
- `first_exhausted`: the mixture ends there: it is the longest prefix of the plan that every source can serve.
- `all_exhausted`: the source is left out from there on, and the integral restarts among the others; the mixture ends
  when no source with a weight has rows left, so every row is given exactly once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from easydata_mix.plan.block_order import Order, counts_of, first_unserved
from easydata_mix.plan.planner import Block, BlockStart, Planner
from easydata_mix.plan.share_curve import HORIZON

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_STRETCH_ROWS = 1 << 14

Stop: TypeAlias = Literal["restart", "first_exhausted", "all_exhausted"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanPosition:
    """A position in a plan and what led there."""

    begin: BlockStart
    """Start of the block."""
    offset: int
    """Rows of the block already given."""
    drawn: tuple[int, ...]
    """Rows of each source before the block, since row 0, over all phases and passes."""

    @property
    def row(self) -> int:
        """Rows of the mixture before this position."""
        return self.begin.row + self.offset


def walk(
    planner: Planner, start: PlanPosition, rows: int, *, lengths: Sequence[int | None], stop: Stop
) -> PlanPosition:
    """Return the position `rows` rows after `start`, or the end of the mixture if that comes first.

    Args:
        planner: The plan.
        start: Where to start.
        rows: How far to go.
        lengths: Rows of each source; not needed under `restart`.
        stop: The stop policy.
    """
    target = start.row + rows
    begin, drawn = start.begin, list(start.drawn)
    limits = [HORIZON if stop == "restart" or length is None else length for length in lengths]
    while True:
        begin, drawn = _jump(planner, begin, drawn, limits, target)
        block = planner.block(begin)
        if block is None:
            return PlanPosition(begin=begin, offset=0, drawn=tuple(drawn))
        cut = _cut(block, [limit - used for limit, used in zip(limits, drawn, strict=True)])
        served = cut[0] if cut else block.stop - begin.row
        behind = go_on(planner, block, served, cut and cut[1], stop)
        if target < begin.row + served or (cut and (behind is None or target == begin.row + served)):
            return PlanPosition(begin=begin, offset=min(target - begin.row, served), drawn=tuple(drawn))
        more = _counts(block, served) if cut else block.quotas
        drawn = [used + given for used, given in zip(drawn, more, strict=True)]
        assert behind is not None
        begin = behind


def orders(planner: Planner, rows: int, *, lengths: Sequence[int | None], stop: Stop) -> Iterator[Order]:
    """Yield the sources of the first `rows` rows, block by block; fewer only if the mixture ends before."""
    begin, left = planner.start(), [HORIZON if stop == "restart" or n is None else n for n in lengths]
    limited = any(available < HORIZON for available in left)
    while not limited and rows > 0 and (stretch := planner.stretch(begin, min(rows, _STRETCH_ROWS))) is not None:
        yield stretch.order
        rows -= len(stretch.order)
        begin = stretch.begin_after(len(stretch.order))
    while rows > 0 and begin is not None and (block := planner.block(begin)) is not None:
        cut = _cut(block, left)
        order = block.order[: cut[0] if cut else None][:rows]
        yield order
        rows -= len(order)
        left = [available - used for available, used in zip(left, counts_of(order, len(left)), strict=True)]
        begin = go_on(planner, block, len(order), cut and cut[1], stop)


def go_on(planner: Planner, block: Block, served: int, exhausted: int | None, stop: Stop) -> BlockStart | None:
    """Return where the plan goes on behind the rows of a block that could be served; None where the mixture ends.

    Args:
        planner: The plan.
        block: The block.
        served: Rows of it that could be served: all, unless a source ran out.
        exhausted: The source that ran out; None = none did.
        stop: The stop policy.
    """
    return planner.after(block) if exhausted is None else leave_out(planner, block.begin, served, exhausted, stop)


def leave_out(planner: Planner, begin: BlockStart, served: int, exhausted: int, stop: Stop) -> BlockStart | None:
    """Return where the plan goes on without a source that ran out in a block; None where the mixture ends instead."""
    return planner.without(begin, exhausted, begin.row + served) if stop == "all_exhausted" else None


def drawn_at(planner: Planner, position: PlanPosition) -> list[int]:
    """Return the rows of each source before a position, since row 0."""
    block = planner.block(position.begin) if position.offset else None
    if block is None:
        return list(position.drawn)
    return [used + more for used, more in zip(position.drawn, _counts(block, position.offset), strict=True)]


def _counts(block: Block, rows: int) -> list[int]:
    return counts_of(block.order[:rows], len(block.totals))


def _cut(block: Block, available: Sequence[int]) -> tuple[int, int] | None:
    if all(quota <= left for quota, left in zip(block.quotas, available, strict=True)):
        return None
    return first_unserved(block.order, available)


def _jump(
    planner: Planner, begin: BlockStart, drawn: list[int], limits: Sequence[int], target: int
) -> tuple[BlockStart, list[int]]:
    """Skip what can be skipped without passing the target or the end of a source."""
    # Sources give at most one row per row of the mixture, so none runs out before the nearest limit.
    nearest = min((limits[index] - drawn[index] for index in begin.live), default=0)
    later = planner.jump(begin, min(target, begin.row + nearest))
    if later is begin:
        return begin, drawn
    moved = [used + after - before for used, after, before in zip(drawn, later.given, begin.given, strict=True)]
    return later, moved


def token_orders(planner: Planner, rows: int, *, lengths: Sequence[NDArray[np.integer]], stop: Stop) -> Iterator[Order]:
    """Yield the sources of the first `rows` rows, block by block; fewer only if the mixture ends before.

    Args:
        planner: The plan.
        rows: How many.
        lengths: Tokens of each row of each source, in its order.
        stop: The stop policy.
    """
    used = [0] * len(lengths)

    def upcoming(source: int, index: int) -> int | None:
        row, known = used[source] + index, lengths[source]
        if row >= len(known) and stop != "restart":
            return None
        return int(known[row % len(known)])

    begin: BlockStart | None = planner.start()
    while rows > 0 and begin is not None and (planned := planner.token_block(begin, upcoming)) is not None:
        block, exhausted = planned
        yield block.order[:rows]
        rows -= len(block.order)
        used = [before + more for before, more in zip(used, counts_of(block.order, len(used)), strict=True)]
        begin = go_on(planner, block, len(block.order), exhausted, stop)
