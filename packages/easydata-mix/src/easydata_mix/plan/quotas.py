"""Quotas: whole rows from fractional shares, so that after every block each source is within one row of its integral.

Rounding every block by itself starves small weights and adds up bias. Rounding the running integral by largest
remainder does neither, but from one block to the next a source's total may go *back*, which no stream can honour.
So the r-th row of a source is treated as a job with a window: it may be given once the source's integral has passed
r − 1 and must be given by the time it reaches r. Giving the rows whose windows close first always meets every window
(the fractional shares themselves are a feasible plan, and earliest deadline first is optimal for unit jobs), hence

    floor(I_i) <= consumed_i <= ceil(I_i)   after every block, and consumed_i never decreases.

Planning a block asks every source how far its integral is, which blocks of 1,000 rows hardly notice and blocks of one
row would pay for every row. For shares that do not change, the windows have closed forms: row r of a source with share
w may be given from row floor((r − 1)/w) + 1 on and must be by row ceil(r/w). So for them two queues are enough
(`EvenOrder`), and the order is the very one that planning block by block gives.

Reference: R. Tijdeman, "The chairman assignment problem", Discrete Mathematics 32 (1980), 323-330.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from easydata_mix.plan.types import Order

_LONGEST_PATTERN = 1 << 14


def next_totals(
    consumed: Sequence[int],
    integral: Sequence[int],
    *,
    unit: int,
    rows: int,
    deadline: Callable[[int, int], int],
) -> list[int]:
    """Returns how many rows each source has given at the end of the next block.

    Args:
        consumed: Rows given so far per source, as returned for the previous block; zeros where the integral starts.
        integral: Running integral of the shares at the block's end, in 1/`unit` rows; sums to `rows·unit`.
        unit: Denominator of `integral`.
        rows: Rows given by all sources together at the block's end.
        deadline: `deadline(source, r)` = when the source's integral reaches r rows, on any common increasing scale.
    """
    totals = [max(before, exact // unit) for before, exact in zip(consumed, integral, strict=True)]
    spare = rows - sum(totals)
    if not spare:
        return totals
    # How far the integral is past the rows given; only sources that are owed a part of a row may get one more.
    owed = [exact - total * unit for exact, total in zip(integral, totals, strict=True)]
    candidates = [source for source, part in enumerate(owed) if part > 0]
    if spare < len(candidates):
        candidates.sort(key=lambda source: (deadline(source, totals[source] + 1), -owed[source], source))
    for source in candidates[:spare]:
        totals[source] += 1
    return totals


class EvenOrder:
    """The sources of the rows of a phase with constant shares and blocks of one row.

    Args:
        shares: Share of each source, in 1/`unit`.
        unit: Their sum; after so many rows the order begins again.
    """

    def __init__(self, shares: Sequence[int], unit: int) -> None:
        self._shares = shares
        self._unit = unit
        self._pattern: Order | None = None

    def rows(self, consumed: Sequence[int], start: int, count: int) -> Order:
        """Returns the sources of `count` rows.

        Args:
            consumed: Rows of each source since the phase began.
            start: Rows of all of them; the first row wanted.
            count: How many rows.
        """
        import numpy as np

        if self._unit > _LONGEST_PATTERN:
            return np.array(self._plan(consumed, start, count), dtype=np.intp)
        if self._pattern is None:
            zeros = [0] * len(self._shares)
            self._pattern = np.array(self._plan(zeros, 0, self._unit), dtype=np.intp)
        return self._pattern[(start + np.arange(count)) % self._unit]

    def _plan(self, consumed: Sequence[int], start: int, count: int) -> list[int]:
        shares, unit = self._shares, self._unit
        done = list(consumed)
        waiting = [(done[i] * unit // share + 1, i) for i, share in enumerate(shares) if share]
        heapify(waiting)
        ready: list[tuple[int, int]] = []
        order: list[int] = []
        for row in range(start + 1, start + count + 1):
            while waiting and waiting[0][0] <= row:
                source = heappop(waiting)[1]
                heappush(ready, (-((done[source] + 1) * unit // -shares[source]), source))
            deadline, source = heappop(ready)
            if ready and ready[0][0] == deadline:
                source = self._most_owed(ready, deadline, source, row, done)
            order.append(source)
            done[source] += 1
            heappush(waiting, (done[source] * unit // shares[source] + 1, source))
        return order

    def _most_owed(
        self, ready: list[tuple[int, int]], deadline: int, source: int, row: int, done: Sequence[int]
    ) -> int:
        """Returns the one of the sources due at the same row that is owed most, and puts the others back."""
        tied = [source]
        while ready and ready[0][0] == deadline:
            tied.append(heappop(ready)[1])
        chosen = max(tied, key=lambda i: (self._shares[i] * row - done[i] * self._unit, -i))
        for other in tied:
            if other != chosen:
                heappush(ready, (deadline, other))
        return chosen
