"""Walking a plan by known lengths, of sources or of rows: nothing is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, final

from easydata_mix.plan.block_order import counts_of
from easydata_mix.plan.planner import Planner
from easydata_mix.plan.share_curve import HORIZON
from easydata_mix.plan.stepper import Stepper
from easydata_mix.plan.steps import PlanPosition
from easydata_mix.plan.types import Order, Stop, WeightBy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MOST_ROWS = 1 << 14


@final
class KnownSources:
    """Sources of known lengths (a `Supply`).

    Args:
        rows: Rows of each source; None = not known, and without end for the plan.
        stop: The stop policy.
        tokens: Tokens of each row of each source, in its order; None = not known.
        drawn: Rows of each source that were given before.
    """

    def __init__(
        self,
        rows: Sequence[int | None],
        *,
        stop: Stop,
        tokens: Sequence[NDArray[np.integer]] | None = None,
        drawn: Sequence[int] | None = None,
    ) -> None:
        self._limits = [HORIZON if stop == "restart" or length is None else length for length in rows]
        self._tokens = tokens or ()
        self.drawn = list(drawn or [0] * len(rows))

    def available(self, wanted: Sequence[int]) -> Sequence[int]:
        """Returns how many of so many next rows each source can give."""
        return [min(rows, limit - used) for rows, limit, used in zip(wanted, self._limits, self.drawn, strict=True)]

    def tokens(self, source: int, ahead: int) -> int | None:
        """Returns the tokens of a source's next row but `ahead`; None if it has no more."""
        row, known = self.drawn[source] + ahead, self._tokens[source]
        return None if row >= self._limits[source] else int(known[row % len(known)])

    def draw(self, counts: Sequence[int]) -> None:
        """Takes note of rows that each source has given."""
        self.drawn = [used + more for used, more in zip(self.drawn, counts, strict=True)]

    def left(self, source: int) -> int:
        """Returns the rows that a source can still give."""
        return self._limits[source] - self.drawn[source]


@final
class Walk:
    """Goes through a plan of which the sources' lengths are known.

    Args:
        planner: The plan.
        sources: The sources, at the position.
        stop: The stop policy.
        weight_by: What the weights are shares of.
        position: Where to begin; None = at the start.
    """

    def __init__(
        self,
        planner: Planner,
        sources: KnownSources,
        *,
        stop: Stop,
        weight_by: WeightBy = "row",
        position: PlanPosition | None = None,
    ) -> None:
        self._sources = sources
        self._by_tokens = weight_by == "token"
        self._stepper = Stepper(planner, sources, stop=stop, weight_by=weight_by, position=position)

    @property
    def position(self) -> PlanPosition:
        """Where the walk is."""
        return self._stepper.position

    @property
    def drawn(self) -> list[int]:
        """Rows of each source before that, since row 0, over all phases and passes."""
        return list(self._sources.drawn)

    def skip(self, rows: int) -> int:
        """Goes on by so many rows, where weights are shares of rows; returns how many there were."""
        target, start = self.position.row + rows, self.position.row
        while self.position.row < target:
            self._jump(target)
            left = target - self.position.row
            step = self._stepper.next(min(left, _MOST_ROWS)) if left else None
            if step is None:
                break
            self._sources.draw(step.counts)
            self._stepper.advance(step)
        return self.position.row - start

    def orders(self, rows: int) -> Iterator[Order]:
        """Yields the sources of the next `rows` rows; fewer only if the mixture ends before."""
        while rows > 0 and (step := self._stepper.next(min(rows, _MOST_ROWS))) is not None:
            yield step.order[:rows]
            rows -= len(step.order)
            self._sources.draw(step.counts)
            self._stepper.advance(step)

    def drawn_at(self, ends: Sequence[int]) -> Iterator[list[int]]:
        """Yields the rows of each source up to each of some rows of the mixture, in ascending order."""
        import numpy as np

        if not self._by_tokens:
            for end in ends:
                self.skip(end - self.position.row)
                yield self.drawn
            return
        order = np.concatenate([np.zeros(0, np.intp), *self.orders(ends[-1])])
        for end in ends:
            yield counts_of(order[:end], len(self.drawn))

    def _jump(self, target: int) -> None:
        # Sources give at most one row per row of the mixture, so none runs out before the nearest limit.
        begin = self.position.begin
        nearest = min((self._sources.left(source) for source in begin.live), default=0)
        before = self._stepper.jump(min(target, self.position.row + nearest)).begin
        after = self.position.begin
        if after is not before:
            self._sources.draw([now - then for now, then in zip(after.consumed, before.consumed, strict=True)])
