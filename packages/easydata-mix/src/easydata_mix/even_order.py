"""The even order: many blocks of one row, planned together.

Planning a block asks every source how far its integral is, which blocks of 1,000 rows hardly notice and blocks of one
row would pay for every row. For shares that do not change, the windows of `quotas.py` have closed forms: row r of a
source with share w may be given from row floor((r − 1)/w) + 1 on and must be by row ceil(r/w). So two queues are
enough, and the order is the very one that planning block by block gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from easydata_mix.order import Order

_LONGEST_PATTERN = 1 << 14


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

    def rows(self, given: Sequence[int], start: int, count: int) -> Order:
        """Return the sources of `count` rows.

        Args:
            given: Rows of each source since the phase began.
            start: Rows of all of them; the first row wanted.
            count: How many rows.
        """
        import numpy as np

        if self._unit > _LONGEST_PATTERN:
            return np.array(self._plan(given, start, count), dtype=np.intp)
        if self._pattern is None:
            zeros = [0] * len(self._shares)
            self._pattern = np.array(self._plan(zeros, 0, self._unit), dtype=np.intp)
        return self._pattern[(start + np.arange(count)) % self._unit]

    def _plan(self, given: Sequence[int], start: int, count: int) -> list[int]:
        shares, unit = self._shares, self._unit
        done = list(given)
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
        """Return the one of the sources due at the same row that is owed most, and put the others back."""
        tied = [source]
        while ready and ready[0][0] == deadline:
            tied.append(heappop(ready)[1])
        chosen = max(tied, key=lambda i: (self._shares[i] * row - done[i] * self._unit, -i))
        for other in tied:
            if other != chosen:
                heappush(ready, (deadline, other))
        return chosen
