"""The stepper of a plan: the next rows that the sources can serve, step by step, to the end of the mixture.

Stop policies, all phrased by the first draw that finds its source empty:

- `restart`: the source starts over; the mixture never ends.
- `first_exhausted`: the mixture ends there: it is the longest prefix of the plan that every source can serve.
- `all_exhausted`: the source is left out from there on, and the integral restarts among the others; the mixture ends
  when no source with a weight has rows left, so every row is given exactly once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, final

from easydata_mix.plan.block_order import first_unserved
from easydata_mix.plan.planner import Planner
from easydata_mix.plan.steps import BlockStep, EvenStep, Piece, PlanPosition, Step, TokenStep
from easydata_mix.plan.types import Stop, WeightBy

_GATHERED_ROWS = 256  # small blocks are planned together up to this, for speed


class Supply(Protocol):
    """What deciding asks of the sources at the present position: all that it knows of reading."""

    def available(self, wanted: Sequence[int]) -> Sequence[int]:
        """Returns how many of so many next rows each source can give."""
        ...

    def tokens(self, source: int, ahead: int) -> int | None:
        """Returns the tokens of a source's next row but `ahead`; None if it has no more."""
        ...


@final
class Stepper:
    """Goes through a plan; whoever uses it advances the sources by each step's counts.

    Args:
        planner: The plan.
        supply: The sources.
        stop: The stop policy.
        weight_by: What the weights are shares of.
        position: Where to begin; None = at the start.
    """

    def __init__(
        self, planner: Planner, supply: Supply, *, stop: Stop, weight_by: WeightBy, position: PlanPosition | None = None
    ) -> None:
        self._planner = planner
        self._supply = supply
        self._stop = stop
        self._by_tokens = weight_by == "token"
        self.position = position or PlanPosition(begin=planner.start())
        self.planned_rows = 0
        """Global index of the row up to which the order is in use once the step planned last is."""

    def next(self, most: int) -> Step | None:
        """Returns the rows behind the position that the sources can serve, at least one; None at the mixture's end.

        Asked again without `advance`, it returns the same.

        Args:
            most: Most rows; not heeded where weights are shares of tokens.
        """
        self._heed_edits()
        while True:
            step, exhausted = self._next_tokens() if self._by_tokens else self._next_rows(most)
            if step is not None or exhausted is None:
                return step
            if self._stop != "all_exhausted":
                return None
            self.position = PlanPosition(begin=self._planner.without(self.position.begin, exhausted, self.position.row))

    def advance(self, step: Step) -> None:
        """Moves behind a step."""
        self.position = step.position_after(len(step.order))

    def jump(self, row: int) -> PlanPosition:
        """Moves to a later block's start, at or before `row`, where arithmetic leads there; returns the position
        before.

        No source may run out before.
        """
        self._heed_edits()
        before = self.position
        if not before.offset and not self._by_tokens:
            self.position = PlanPosition(begin=self._planner.jump(before.begin, row))
        return before

    def _heed_edits(self) -> None:
        if not self.position.offset:
            self.position = PlanPosition(begin=self._planner.in_force(self.position.begin))

    def _next_rows(self, most: int) -> tuple[Step | None, int | None]:
        """Returns what can be served of the next rows, and the source that has none for the very first of them."""
        step = self._planned(most)
        if step is None:
            return None, None
        wanted = step.counts
        available = self._supply.available(wanted)
        if available == wanted:
            return step, None
        cut = first_unserved(step.order, available)
        if cut is None:
            return step, None
        rows, source = cut
        return (step.first(rows), None) if rows else (None, source)

    def _planned(self, most: int) -> EvenStep | BlockStep | None:
        planner, begin, offset = self._planner, self.position.begin, self.position.offset
        even = None if offset else planner.even_step(begin, most)
        if even is not None:
            self.planned_rows = begin.row + len(even.order)
            return even
        pieces: list[Piece] = []
        rows = 0
        while rows < min(most, _GATHERED_ROWS) and (block := planner.block(begin)) is not None:
            length = block.stop - begin.row
            pieces.append(Piece(block=block, start=offset, stop=min(length, offset + most - rows)))
            rows += pieces[-1].stop - offset
            begin, offset = (planner.after(block), 0) if pieces[-1].stop == length else (begin, pieces[-1].stop)
        if not pieces:
            return None
        self.planned_rows = pieces[-1].block.stop
        return BlockStep(pieces=pieces, end=PlanPosition(begin=begin, offset=offset))

    def _next_tokens(self) -> tuple[Step | None, int | None]:
        planned = self._planner.token_block(self.position.begin, self._supply.tokens)
        if planned is None:
            return None, None
        block, exhausted = planned
        if block.stop == block.begin.row:
            return None, exhausted
        self.planned_rows = block.stop
        # Who ran out in the block is found anew behind it, so that what is there is the same for those who step over.
        end = self._planner.after(block)
        return TokenStep(block=block, end=end, offset=self.position.offset), None
