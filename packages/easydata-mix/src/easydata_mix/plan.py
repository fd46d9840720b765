"""The plan of a mixture: which source every row comes from, block by block, without reading any.

    >>> from easydata_mix.journal import Journal
    >>> from easydata_mix.weights import exact_shares
    >>> names = ["a", "b"]
    >>> curves = static_curves(exact_shares([3, 1], names))
    >>> planner = Planner(2, curves, journal=Journal(names), block_size=4, seed=0)
    >>> planner.block(planner.start()).totals
    (3, 1)

The plan moves in *phases*. Within a phase the running integral of the shares decides how many rows each source has
given at every block boundary (`quotas.py`). A phase ends, and the integral starts again from 0, where an edit changes
the weights or a source runs out. A `Place` (a few integers, one count per source) says all there is to know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from math import lcm
from typing import TypeAlias

from easydata_mix.curve import HORIZON, ShareCurve
from easydata_mix.even_order import EvenOrder
from easydata_mix.journal import Journal
from easydata_mix.order import Order, block_order, counts_of
from easydata_mix.quotas import next_totals
from easydata_mix.token_plan import Upcoming, token_quotas
from easydata_mix.weights import Shares

Live: TypeAlias = tuple[int, ...]
"""Indices of the sources that still have rows."""

Curves: TypeAlias = Callable[[Live], ShareCurve | None]
"""The share curve over some of the sources; None if their weights are 0 for ever."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """The start of a block."""

    row: int
    """Global index of its first row."""
    phase: int
    """Row at which the integral last started."""
    given: tuple[int, ...]
    """Rows of each source since then."""
    live: Live
    credit: tuple[Fraction, ...] = ()
    """Where weights are shares of tokens: tokens each source is owed since then; () = nothing yet."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block of the plan."""

    place: Place
    stop: int
    """Global index of the row after it."""
    totals: tuple[int, ...]
    """Rows of each source since the phase began, at the block's end."""
    seed: int
    credit: tuple[Fraction, ...] = ()
    """Credit of each source at its end, where weights are shares of tokens."""

    @property
    def quotas(self) -> list[int]:
        """Rows of each source in this block."""
        return [after - before for after, before in zip(self.totals, self.place.given, strict=True)]

    @cached_property
    def order(self) -> Order:
        """Source of every row of the block."""
        return block_order(self.quotas, seed=self.seed, row=self.place.row)


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Consecutive blocks of one row, planned together."""

    place: Place
    order: Order
    """Source of every row."""
    end: Place | None
    """The place after the last row, if it begins a new phase."""

    def place_after(self, rows: int) -> Place:
        """Return the place after the first `rows` rows."""
        if rows == len(self.order) and self.end is not None:
            return self.end
        counts = counts_of(self.order[:rows], len(self.place.given))
        given = tuple(before + more for before, more in zip(self.place.given, counts, strict=True))
        return replace(self.place, row=self.place.row + rows, given=given)


class Planner:
    """Plans blocks; holds nothing but caches."""

    def __init__(
        self,
        sources: int,
        curves: Curves,
        *,
        journal: Journal,
        block_size: int,
        seed: int,
        clock_start: int = 0,
    ) -> None:
        """Build a planner.

        Args:
            sources: Number of sources.
            curves: The share curves by live sources while no edit is in force.
            journal: The weight edits.
            block_size: Rows in a block; a phase may end with a shorter one.
            seed: Seed of the order inside blocks.
            clock_start: Rows of earlier epochs: the clock of schedules and edits runs on over epochs.
        """
        self._sources = sources
        self._curves = curves
        self._journal = journal
        self._block_size = block_size
        self._seed = seed
        self._clock_start = clock_start
        self._phase: _Phase | None = None

    def start(self) -> Place:
        """Return the place of row 0."""
        return Place(row=0, phase=0, given=(0,) * self._sources, live=tuple(range(self._sources)))

    def settle(self, row: int) -> None:
        """Take note that the order of the rows before `row` is in use, so that no edit may change it any more."""
        self._journal.planned_rows = max(self._journal.planned_rows, self._clock_start + row)

    def block(self, place: Place) -> Block | None:
        """Return the block at a place; None if no live source has a weight any more."""
        phase = self._phase_of(place)
        if phase.curve is None:
            return None
        stop = min(place.row + self._block_size, self._next_edit(place.row))
        totals = phase.totals(place.given, place.row, stop, self._block_size)
        return Block(place=place, stop=stop, totals=totals, seed=self._seed)

    def token_block(self, place: Place, upcoming: Upcoming) -> tuple[Block, int | None] | None:
        """Return the block at a place by shares of tokens, and the source that ran out in it; None as for `block`.

        Args:
            place: Start of the block.
            upcoming: The lengths of the sources' next rows.
        """
        curve = self._phase_of(place).curve
        if curve is None:
            return None
        stop = min(place.row + self._block_size, self._next_edit(place.row))
        before, now = (curve.cumulative(self._clock_start + row) for row in (place.row, stop))
        shares = [after - earlier for after, earlier in zip(now, before, strict=True)]
        planned = token_quotas(shares, place.credit or (Fraction(0),) * len(shares), stop - place.row, upcoming)
        totals = tuple(given + more for given, more in zip(place.given, planned.quotas, strict=True))
        stop = place.row + sum(planned.quotas)
        block = Block(place=place, stop=stop, totals=totals, seed=self._seed, credit=planned.credit)
        return block, planned.exhausted

    def stretch(self, place: Place, rows: int) -> Stretch | None:
        """Return up to `rows` blocks of one row at once; None where only `block` can plan."""
        even = self._phase_of(place).even if self._block_size == 1 else None
        if even is None or rows < 1:
            return None
        edit = self._next_edit(place.row)
        stop = min(place.row + rows, edit)
        order = even.rows(place.given, place.row - place.phase, stop - place.row)
        end = replace(self.start(), row=stop, phase=stop, live=place.live) if stop == edit else None
        return Stretch(place=place, order=order, end=end)

    def after(self, block: Block) -> Place:
        """Return the place after a block that was given in full."""
        if self._next_edit(block.place.row) == block.stop:
            return replace(self.start(), row=block.stop, phase=block.stop, live=block.place.live)
        return replace(block.place, row=block.stop, given=block.totals, credit=block.credit)

    def without(self, place: Place, source: int, row: int) -> Place:
        """Return the place from which a source that ran out at `row` is left out."""
        live = tuple(index for index in place.live if index != source)
        return replace(self.start(), row=row, phase=row, live=live)

    def jump(self, place: Place, row: int) -> Place:
        """Return a later place, at or before `row`, that can be computed without planning the blocks between.

        With constant shares there is a block boundary now and then at which every integral is whole, so that the
        totals follow from the row alone. Returns `place` itself where there is none.
        """
        phase = self._phase_of(place)
        if phase.curve is None or phase.curve.period is None:
            return place
        row = min(row, self._next_edit(place.row))
        stride = lcm(phase.curve.period, self._block_size)
        target = place.phase + (row - place.phase) // stride * stride
        if target <= place.row or target == self._next_edit(place.row):
            return place
        given = tuple(exact // phase.curve.unit for exact in phase.integral(target))
        return replace(place, row=target, given=given)

    def _next_edit(self, row: int) -> int:
        edit = self._journal.next_row(self._clock_start + row)
        return HORIZON if edit is None else edit - self._clock_start

    def _phase_of(self, place: Place) -> _Phase:
        edits = self._journal.edits_before(self._clock_start + place.row)
        key = (place.phase, place.live, edits)
        if self._phase is None or self._phase.key != key:
            curves = static_curves(self._journal.shares(edits)) if edits else self._curves
            self._phase = _Phase(key, curves(place.live) if place.live else None, self._clock_start)
        return self._phase


def static_curves(shares: Shares) -> Curves:
    """Return the curves of shares that never change."""

    def curves(live: Live) -> ShareCurve | None:
        points = restrict([(0, shares)], live)
        return ShareCurve(points) if points else None

    return curves


def restrict(points: Sequence[tuple[int, Shares]], live: Live) -> list[tuple[int, Shares]]:
    """Strike the sources that ran out from schedule points; points at which the others have no weight fall away."""
    restricted = []
    for tick, shares in points:
        total = sum(shares[index] for index in live)
        if total:
            kept = tuple(share / total if index in live else share * 0 for index, share in enumerate(shares))
            restricted.append((tick, kept))
    return restricted


class _Phase:
    """A stretch of rows over which the integral runs undisturbed."""

    def __init__(self, key: tuple[int, Live, int], curve: ShareCurve | None, clock_start: int) -> None:
        self.key = key
        self.curve = curve
        self._start = key[0]
        self._clock_start = clock_start
        self._base = curve.cumulative(clock_start + self._start) if curve else []
        self.even = EvenOrder(curve.constant_shares, curve.unit) if curve and curve.period else None
        self._deadlines: dict[int, tuple[int, int]] = {}
        self._latest: tuple[int, list[int]] = (-1, [])

    def integral(self, row: int) -> list[int]:
        """Return the integral from the phase's start to `row`, in 1/unit rows."""
        assert self.curve is not None
        # Deadlines look one block ahead, so the next block's integral is usually known when it is planned.
        if self._latest[0] != row:
            now = self.curve.cumulative(self._clock_start + row)
            self._latest = row, [after - before for after, before in zip(now, self._base, strict=True)]
        return self._latest[1]

    def totals(self, given: Sequence[int], start: int, stop: int, block_size: int) -> tuple[int, ...]:
        """Return each source's rows since the phase began at the end of the block from `start` to `stop`."""
        curve = self.curve
        assert curve is not None
        # An edit may cut the block short; deadlines stay on the grid of whole blocks, whoever asks and when.
        end = start + block_size

        def deadline(source: int, row: int) -> int:
            known = self._deadlines.get(source)
            if known and known[0] == row:
                return known[1]
            if stop == end and self.integral(end + block_size)[source] >= row * curve.unit:
                return end + block_size
            target = self._base[source] + row * curve.unit
            blocks = curve.reaches(source, target, start=self._clock_start + end, stride=block_size)
            self._deadlines[source] = row, end + blocks * block_size
            return self._deadlines[source][1]

        return tuple(
            next_totals(given, self.integral(stop), unit=curve.unit, rows=stop - self._start, deadline=deadline)
        )
