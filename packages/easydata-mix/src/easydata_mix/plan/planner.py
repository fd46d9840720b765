"""The plan of a mixture: which source every row comes from, block by block, without reading any.

    >>> from easydata_mix.plan.weight_edits import Journal
    >>> from easydata_mix.plan.weights import exact_shares
    >>> names = ["a", "b"]
    >>> curves = static_curves(exact_shares([3, 1], names))
    >>> planner = Planner(2, curves, journal=Journal(names), block_size=4, seed=0)
    >>> planner.block(planner.start()).totals
    (3, 1)

The plan moves in *phases*. Within a phase the running integral of the shares decides how many rows each source has
given at every block boundary (`quotas.py`). A phase ends, and the integral starts again from 0, where an edit changes
the weights or a source runs out. A `BlockStart` (a few integers, one count per source) says all there is to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import lcm
from typing import final

from easydata_mix.plan.quotas import EvenOrder, next_totals
from easydata_mix.plan.schedule import ShareCurves, static_curves
from easydata_mix.plan.share_curve import HORIZON, ShareCurve
from easydata_mix.plan.steps import Block, BlockStart, EvenStep, PlanPosition
from easydata_mix.plan.token_quotas import Upcoming, token_quotas
from easydata_mix.plan.types import Live
from easydata_mix.plan.weight_edits import Journal


@final
class Planner:
    """Plans blocks; holds nothing but caches."""

    def __init__(
        self,
        sources: int,
        curves: ShareCurves,
        *,
        journal: Journal,
        block_size: int,
        seed: int,
        clock_start: int = 0,
    ) -> None:
        """Builds a planner.

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

    def start(self) -> BlockStart:
        """Returns the start of the first block."""
        return self._new_phase(0, tuple(range(self._sources)))

    def settle(self, row: int) -> None:
        """Takes note that the order of the rows before `row` is in use, so that no edit may change it any more."""
        self._journal.planned_rows = max(self._journal.planned_rows, self._clock_start + row)

    def settle_at(self, position: PlanPosition) -> None:
        """Takes note of the same for a position that was come to by arithmetic: the block that it lies in is in use."""
        self.settle(position.begin.row + (self._block_size if position.offset else 0))

    def in_force(self, begin: BlockStart) -> BlockStart:
        """Returns where a block begins by the edits of now: behind a block that was planned before, one may begin."""
        edited = self._next_edit(begin.row - 1) == begin.row
        return self._new_phase(begin.row, begin.live) if edited and begin.phase != begin.row else begin

    def block(self, begin: BlockStart) -> Block | None:
        """Returns the block that begins there; None if no live source has a weight any more."""
        phase = self._phase_of(begin)
        if phase.curve is None:
            return None
        stop = min(begin.row + self._block_size, self._next_edit(begin.row))
        totals = phase.totals(begin.consumed, begin.row, stop, self._block_size)
        return Block(begin=begin, stop=stop, totals=totals, seed=self._seed)

    def token_block(self, begin: BlockStart, upcoming: Upcoming) -> tuple[Block, int | None] | None:
        """Returns the block there by shares of tokens, and the source that ran out in it; None as for `block`.

        Args:
            begin: Start of the block.
            upcoming: The lengths of the sources' next rows.
        """
        curve = self._phase_of(begin).curve
        if curve is None:
            return None
        stop = min(begin.row + self._block_size, self._next_edit(begin.row))
        before, now = (curve.cumulative(self._clock_start + row) for row in (begin.row, stop))
        shares = [after - earlier for after, earlier in zip(now, before, strict=True)]
        planned = token_quotas(shares, begin.credit or (Fraction(0),) * len(shares), stop - begin.row, upcoming)
        totals = tuple(before + more for before, more in zip(begin.consumed, planned.quotas, strict=True))
        stop = begin.row + sum(planned.quotas)
        block = Block(begin=begin, stop=stop, totals=totals, seed=self._seed, credit=planned.credit)
        return block, planned.exhausted

    def even_step(self, begin: BlockStart, rows: int) -> EvenStep | None:
        """Returns up to `rows` blocks of one row at once; None where only `block` can plan."""
        even = self._phase_of(begin).even if self._block_size == 1 else None
        if even is None or rows < 1:
            return None
        edit = self._next_edit(begin.row)
        stop = min(begin.row + rows, edit)
        order = even.rows(begin.consumed, begin.row - begin.phase, stop - begin.row)
        end = self._new_phase(stop, begin.live) if stop == edit else None
        return EvenStep(begin=begin, sources=order, end=end)

    def after(self, block: Block) -> BlockStart:
        """Returns where the block after one that was given in full begins."""
        if self._next_edit(block.begin.row) == block.stop:
            return self._new_phase(block.stop, block.begin.live)
        return replace(block.begin, row=block.stop, consumed=block.totals, credit=block.credit)

    def without(self, begin: BlockStart, source: int, row: int) -> BlockStart:
        """Returns where a block begins from which a source that ran out at `row` is left out."""
        live = tuple(index for index in begin.live if index != source)
        return self._new_phase(row, live)

    def jump(self, begin: BlockStart, row: int) -> BlockStart:
        """Returns a later block's start, at or before `row`, that can be computed without planning the blocks between.

        With constant shares there is a block boundary now and then at which every integral is whole, so that the
        totals follow from the row alone. Returns `begin` itself where there is none.
        """
        phase = self._phase_of(begin)
        if phase.curve is None or phase.curve.period is None:
            return begin
        row = min(row, self._next_edit(begin.row))
        stride = lcm(phase.curve.period, self._block_size)
        target = begin.phase + (row - begin.phase) // stride * stride
        if target <= begin.row or target == self._next_edit(begin.row):
            return begin
        consumed = tuple(exact // phase.curve.unit for exact in phase.integral(target))
        return replace(begin, row=target, consumed=consumed)

    def _new_phase(self, row: int, live: Live) -> BlockStart:
        return BlockStart(row=row, phase=row, consumed=(0,) * self._sources, live=live)

    def _next_edit(self, row: int) -> int:
        edit = self._journal.next_row(self._clock_start + row)
        return HORIZON if edit is None else edit - self._clock_start

    def _phase_of(self, begin: BlockStart) -> _Phase:
        edits = self._journal.edits_before(self._clock_start + begin.row)
        key = (begin.phase, begin.live, edits)
        if self._phase is None or self._phase.key != key:
            curves = static_curves(self._journal.shares(edits)) if edits else self._curves
            self._phase = _Phase(key, curves.among(begin.live), self._clock_start)
        return self._phase


@final
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
        """Returns the integral from the phase's start to `row`, in 1/unit rows."""
        assert self.curve is not None
        # Deadlines look one block ahead, so the next block's integral is usually known when it is planned.
        if self._latest[0] != row:
            now = self.curve.cumulative(self._clock_start + row)
            self._latest = row, [after - before for after, before in zip(now, self._base, strict=True)]
        return self._latest[1]

    def totals(self, consumed: Sequence[int], start: int, stop: int, block_size: int) -> tuple[int, ...]:
        """Returns each source's rows since the phase began at the end of the block from `start` to `stop`."""
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
            next_totals(consumed, self.integral(stop), unit=curve.unit, rows=stop - self._start, deadline=deadline)
        )
