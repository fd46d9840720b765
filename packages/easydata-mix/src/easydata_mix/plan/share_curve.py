"""Share curves: the exact running integral of the sources' shares, at any row, without adding rows up.

Shares change between points of a schedule. The clock of a schedule counts ticks (optimizer steps, or rows), and all
rows of a tick have the tick's shares, so the integral after n rows is a sum over ticks. Per stage between two points

    I_i(n) = I_i(stage) + from_i · m + (to_i − from_i) · F(m)          m = ticks into the stage

where F(m) = Σ_{j<m} f(j) sums the ramp: 0 for `step`, m(m−1)/2span for `linear`, see `cosine.py` for `cosine`.
Everything is an integer over one common denominator: Python's integers do not overflow and do not round.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import lcm

from easydata_mix.plan import cosine
from easydata_mix.plan.types import Interpolation, Shares

HORIZON = 1 << 62
"""A row no run reaches: the answer to "when?" for what never happens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stage:
    """The ticks from one point of a schedule to the next."""

    start: int
    base: tuple[int, ...]
    """Integral at `start`, over the curve's unit."""
    share: tuple[int, ...]
    """Shares at `start`, over the curve's `share_unit`."""
    change: tuple[int, ...]
    """Shares at the stage's end minus those at its start; zeros for a constant stage."""
    ramped: bool
    """Whether the shares change within the stage."""
    span: int


class ShareCurve:
    """The running integral of the shares of k sources over the rows of a mixture.

    Attributes:
        unit: The denominator of every integral: `cumulative(n)[i] / unit` rows are source i's share of n rows.
        period: For constant shares, the rows after which every integral is whole again; None for a schedule.
    """

    def __init__(
        self,
        points: Sequence[tuple[int, Shares]],
        *,
        interpolation: Interpolation = "step",
        rows_per_tick: int = 1,
    ) -> None:
        """Builds the curve of a schedule.

        Args:
            points: (tick, shares) in ascending order of ticks; the first shares hold before the first point, the
                last ones after the last.
            interpolation: Shape between points.
            rows_per_tick: Rows in one tick of the clock.
        """
        share_unit = lcm(*(share.denominator for _, shares in points for share in shares))
        spans = [after - before for (before, _), (after, _) in pairwise(points)]
        self._interpolation = interpolation
        self._rows_per_tick = rows_per_tick
        self._scale = {
            "step": 1,
            "linear": lcm(*(2 * span for span in spans)),
            "cosine": 1 << cosine.PRECISION if spans else 1,
        }[interpolation]
        self.unit = share_unit * self._scale
        whole = [(tick, tuple(int(share * share_unit) for share in shares)) for tick, shares in points]
        self._stages = self._build(whole)
        self._starts = [stage.start for stage in self._stages]
        self.period = share_unit if len(points) == 1 else None

    def cumulative(self, row: int) -> list[int]:
        """Returns every source's integral over the rows before `row`, in 1/`unit` rows."""
        stage, flat, ramp = self._locate(row)
        if not ramp:
            return [base + share * flat for base, share in zip(stage.base, stage.share, strict=True)]
        return [
            base + share * flat + change * ramp
            for base, share, change in zip(stage.base, stage.share, stage.change, strict=True)
        ]

    def cumulative_of(self, source: int, row: int) -> int:
        """Returns one source's integral over the rows before `row`, in 1/`unit` rows."""
        stage, flat, ramp = self._locate(row)
        return stage.base[source] + stage.share[source] * flat + stage.change[source] * ramp

    @property
    def constant_shares(self) -> tuple[int, ...]:
        """The shares of the last stage, in 1/`unit`; those of every row where there is a `period`."""
        return tuple(share * self._scale for share in self._stages[-1].share)

    def reaches(self, source: int, target: int, *, start: int, stride: int) -> int:
        """Returns the smallest j >= 0 with `cumulative_of(source, start + j·stride) >= target`; `HORIZON` if never."""
        if self.cumulative_of(source, start) >= target:
            return 0
        high = 1
        while self.cumulative_of(source, start + high * stride) < target:
            high *= 2
            if high > HORIZON:
                return HORIZON
        low = high // 2
        while high - low > 1:
            middle = (low + high) // 2
            if self.cumulative_of(source, start + middle * stride) < target:
                low = middle
            else:
                high = middle
        return high

    def _build(self, points: list[tuple[int, tuple[int, ...]]]) -> list[_Stage]:
        zeros = (0,) * len(points[0][1])
        if points[0][0] > 0:
            points = [(0, points[0][1]), *points]
        stages: list[_Stage] = []
        base = zeros
        for (start, share), (stop, target) in zip(points, [*points[1:], points[-1]], strict=True):
            ramped = self._interpolation != "step" and stop > start and share != target
            change = tuple(b - a for a, b in zip(share, target, strict=True)) if ramped else zeros
            stages.append(
                _Stage(start=start, base=base, share=share, change=change, ramped=ramped, span=max(stop - start, 1))
            )
            rows = (stop - start) * self._rows_per_tick
            ramp = self._ramp(stages[-1], stop - start) * self._rows_per_tick if ramped else 0
            base = tuple(b + s * rows * self._scale + c * ramp for b, s, c in zip(base, share, change, strict=True))
        return stages

    def _locate(self, row: int) -> tuple[_Stage, int, int]:
        """Returns the stage of a row and the factors of its shares and of their change, scaled."""
        tick, part = divmod(row, self._rows_per_tick)
        stage = self._stages[bisect_right(self._starts, tick) - 1]
        ticks = tick - stage.start
        flat = (ticks * self._rows_per_tick + part) * self._scale
        if not stage.ramped:
            return stage, flat, 0
        ramp = self._ramp(stage, ticks)
        step = self._ramp(stage, ticks + 1) - ramp if part else 0
        return stage, flat, ramp * self._rows_per_tick + part * step

    def _ramp(self, stage: _Stage, ticks: int) -> int:
        if self._interpolation == "linear":
            return ticks * (ticks - 1) * (self._scale // (2 * stage.span))
        return cosine.ramp_sum(ticks, stage.span)
