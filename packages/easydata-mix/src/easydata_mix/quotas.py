"""Quotas: whole rows from fractional shares, so that after every block each source is within one row of its integral.

Rounding every block by itself starves small weights and adds up bias. Rounding the running integral by largest
remainder does neither, but from one block to the next a source's total may go *back*, which no stream can honour.
So the r-th row of a source is treated as a job with a window: it may be given once the source's integral has passed
r − 1 and must be given by the time it reaches r. Giving the rows whose windows close first always meets every window
(the fractional shares themselves are a feasible plan, and earliest deadline first is optimal for unit jobs), hence

    floor(I_i) <= given_i <= ceil(I_i)   after every block, and given_i never decreases.

Reference: R. Tijdeman, "The chairman assignment problem", Discrete Mathematics 32 (1980), 323-330.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence


def next_totals(
    given: Sequence[int],
    integral: Sequence[int],
    *,
    unit: int,
    rows: int,
    deadline: Callable[[int, int], int],
) -> list[int]:
    """Return how many rows each source has given at the end of the next block.

    Args:
        given: Rows given so far per source, as returned for the previous block; zeros where the integral starts.
        integral: Running integral of the shares at the block's end, in 1/`unit` rows; sums to `rows·unit`.
        unit: Denominator of `integral`.
        rows: Rows given by all sources together at the block's end.
        deadline: `deadline(source, r)` = when the source's integral reaches r rows, on any common increasing scale.
    """
    totals = [max(before, exact // unit) for before, exact in zip(given, integral, strict=True)]
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
