"""Walking a plan by known lengths: where it ends, and what each source has given after n rows, without reading.

Stop policies, all phrased by the first draw that finds its source empty:

- `restart`: the source starts over; the mixture never ends.
- `first_exhausted`: the mixture ends there: it is the longest prefix of the plan that every source can serve.
- `all_exhausted`: the source is left out from there on, and the integral restarts among the others; the mixture ends
  when no source with a weight has rows left, so every row is given exactly once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from easydata_mix.curve import HORIZON
from easydata_mix.order import Order, counts_of, first_unserved
from easydata_mix.plan import Block, Place, Planner

_STRETCH_ROWS = 1 << 14

Stop: TypeAlias = Literal["restart", "first_exhausted", "all_exhausted"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Spot:
    """A position in a plan and what led there."""

    place: Place
    """Start of the block."""
    offset: int
    """Rows of the block already given."""
    drawn: tuple[int, ...]
    """Rows of each source before the block, since row 0, over all phases and passes."""

    @property
    def row(self) -> int:
        """Rows of the mixture before this position."""
        return self.place.row + self.offset


def walk(planner: Planner, start: Spot, rows: int, *, lengths: Sequence[int | None], stop: Stop) -> Spot:
    """Return the position `rows` rows after `start`, or the end of the mixture if that comes first.

    Args:
        planner: The plan.
        start: Where to start.
        rows: How far to go.
        lengths: Rows of each source; not needed under `restart`.
        stop: The stop policy.
    """
    target = start.row + rows
    place, drawn = start.place, list(start.drawn)
    limits = [HORIZON if stop == "restart" or length is None else length for length in lengths]
    while True:
        place, drawn = _jump(planner, place, drawn, limits, target)
        block = planner.block(place)
        if block is None:
            return Spot(place=place, offset=0, drawn=tuple(drawn))
        cut = _cut(block, [limit - used for limit, used in zip(limits, drawn, strict=True)])
        served = cut[0] if cut else block.stop - place.row
        if target < place.row + served or (cut and (stop == "first_exhausted" or target == place.row + served)):
            return Spot(place=place, offset=min(target - place.row, served), drawn=tuple(drawn))
        before = drawn
        if cut:
            drawn = [limit + used for limit, used in zip(before, _counts(block, served), strict=True)]
            place = planner.without(place, cut[1], place.row + served)
        else:
            drawn = [used + quota for used, quota in zip(before, block.quotas, strict=True)]
            place = planner.after(block)


def orders(planner: Planner, rows: int, *, lengths: Sequence[int | None], stop: Stop) -> Iterator[Order]:
    """Yield the sources of the first `rows` rows, block by block; fewer only if the mixture ends before."""
    place, left = planner.start(), [HORIZON if stop == "restart" or n is None else n for n in lengths]
    limited = any(available < HORIZON for available in left)
    while not limited and rows > 0 and (stretch := planner.stretch(place, min(rows, _STRETCH_ROWS))) is not None:
        yield stretch.order
        rows -= len(stretch.order)
        place = stretch.place_after(len(stretch.order))
    while rows > 0 and (block := planner.block(place)) is not None:
        cut = _cut(block, left)
        order = block.order[: cut[0] if cut else None][:rows]
        yield order
        rows -= len(order)
        left = [available - used for available, used in zip(left, counts_of(order, len(left)), strict=True)]
        if cut and stop == "first_exhausted":
            return
        place = planner.without(place, cut[1], place.row + len(order)) if cut else planner.after(block)


def drawn_at(planner: Planner, spot: Spot) -> list[int]:
    """Return the rows of each source before a position, since row 0."""
    block = planner.block(spot.place) if spot.offset else None
    if block is None:
        return list(spot.drawn)
    return [used + more for used, more in zip(spot.drawn, _counts(block, spot.offset), strict=True)]


def _counts(block: Block, rows: int) -> list[int]:
    return counts_of(block.order[:rows], len(block.totals))


def _cut(block: Block, available: Sequence[int]) -> tuple[int, int] | None:
    if all(quota <= left for quota, left in zip(block.quotas, available, strict=True)):
        return None
    return first_unserved(block.order, available)


def _jump(
    planner: Planner, place: Place, drawn: list[int], limits: Sequence[int], target: int
) -> tuple[Place, list[int]]:
    """Skip what can be skipped without passing the target or the end of a source."""
    # Sources give at most one row per row of the mixture, so none runs out before the nearest limit.
    nearest = min((limits[index] - drawn[index] for index in place.live), default=0)
    later = planner.jump(place, min(target, place.row + nearest))
    if later is place:
        return place, drawn
    moved = [used + after - before for used, after, before in zip(drawn, later.given, place.given, strict=True)]
    return later, moved
