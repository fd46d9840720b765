"""Shares of tokens: which sources give the next rows, so that tokens, not rows, keep to the weights.

Each source has a credit: the tokens its share entitles it to, less those it has given. The credits sum to 0. A row of
l tokens moves every credit by its source's share of l, and that of its own source back by l. Sources take turns like
jobs of l tokens each: one may be given while its credit is not negative, and the next to be given is the one whose
credit would reach l first. So no credit is ever more than the longest row from 0, whatever the lengths are.

Reference: J. Bennett, H. Zhang, "WF²Q: worst-case fair weighted fair queueing", INFOCOM 1996.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import TypeAlias

Upcoming: TypeAlias = Callable[[int, int], int | None]
"""(source, n) -> tokens of the n-th of its next rows, n from 0; None if it has no more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenQuotas:
    """The rows of a block."""

    quotas: list[int]
    """Rows of each source."""
    credit: tuple[Fraction, ...]
    """Credit of each source after them, in tokens."""
    exhausted: int | None
    """The source whose turn had come when it had no more rows; None if the block is full."""


def token_quotas(shares: Sequence[int], credit: Sequence[Fraction], rows: int, upcoming: Upcoming) -> TokenQuotas:
    """Returns how many rows each source gives in a block of `rows` rows.

    Args:
        shares: Share of each source in the block's tokens, up to a common factor.
        credit: Credit of each source at its start.
        rows: Rows in the block; fewer are given only if a source runs out.
        upcoming: The lengths of the sources' next rows.
    """
    credits = _Credits(shares, credit, upcoming)
    for _ in range(rows):
        if not credits.take():
            break
    return TokenQuotas(quotas=credits.quotas, credit=credits.credit(), exhausted=credits.exhausted)


class _Credits:
    """Gives one row after the other; credits are whole numbers of 1/scale tokens."""

    def __init__(self, shares: Sequence[int], credit: Sequence[Fraction], upcoming: Upcoming) -> None:
        unit = sum(shares)
        self._scale = lcm(unit, *(part.denominator for part in credit))
        self._owed = [int(part * self._scale) for part in credit]
        self._rates = [share * (self._scale // unit) for share in shares]
        self._drawn = [source for source, share in enumerate(shares) if share]
        self._upcoming = upcoming
        self.quotas = [0] * len(shares)
        self.exhausted: int | None = None

    def take(self) -> bool:
        """Gives a row of the source whose turn it is; False if it has no more."""
        source = self._next()
        tokens = self._upcoming(source, self.quotas[source])
        if tokens is None:
            self.exhausted = source
            return False
        self.quotas[source] += 1
        for other in self._drawn:
            self._owed[other] += self._rates[other] * tokens
        self._owed[source] -= self._scale * tokens
        return True

    def credit(self) -> tuple[Fraction, ...]:
        return tuple(Fraction(part, self._scale) for part in self._owed)

    def _next(self) -> int:
        """Returns the source, among those with no negative credit, whose credit reaches its next row's length first."""
        best, best_way, best_rate = self._drawn[0], None, 1
        for source in self._drawn:
            if self._owed[source] < 0:
                continue
            tokens = self._upcoming(source, self.quotas[source])
            if tokens is None:
                return source
            way, rate = self._scale * tokens - self._owed[source], self._rates[source]
            if best_way is None or way * best_rate < best_way * rate:
                best, best_way, best_rate = source, way, rate
        return best
