"""Weight schedules: shares of the sources that change over a run.

    >>> from easydata_mix import WeightSchedulePoint, WeightScheduler
    >>> scheduler = WeightScheduler(
    ...     schedule=[
    ...         WeightSchedulePoint(step=0, weights={"easy": 1.0, "hard": 0.0}),
    ...         WeightSchedulePoint(step=100, weights={"easy": 0.0, "hard": 1.0}),
    ...     ],
    ...     interpolation="linear",
    ... )
    >>> scheduler.get_weights(25)
    {'easy': 0.75, 'hard': 0.25}

The clock is the optimizer step by default, as users read `step`; the mixture learns from the trainer how many rows a
step has (`MixedShardedSource.bind`). `unit="sample"` counts rows, `unit="token"` counts tokens at a bound mean per row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import get_args

from easydata_mix.errors import MixtureError
from easydata_mix.plan import cosine
from easydata_mix.plan.clock import Clock
from easydata_mix.plan.share_curve import ShareCurve
from easydata_mix.plan.types import Interpolation, Live, Shares, Unit
from easydata_mix.plan.weights import exact_shares, exact_weight, listed

_SUM_TOLERANCE = Fraction(1, 10**6)


@dataclass(frozen=True, slots=True)
class WeightSchedulePoint:
    """The weights from a moment on."""

    step: int
    """When, counted from 0 in the scheduler's `unit`."""
    weights: Mapping[str, float]
    """Share of each source by name; they sum to 1 (within 10⁻⁶)."""

    def __post_init__(self) -> None:
        if isinstance(self.step, bool) or not isinstance(self.step, int) or self.step < 0:
            raise MixtureError(f"WeightSchedulePoint.step must be a whole number >= 0; found {self.step!r}.")
        if not isinstance(self.weights, Mapping) or not self.weights:
            raise MixtureError(
                f"The weights at step {self.step} must map source names to numbers; found {self.weights!r}."
            )
        where = f"the weight at step {self.step} of "
        total = sum(exact_weight(weight, f"{where}{name!r}") for name, weight in self.weights.items())
        if abs(total - 1) > _SUM_TOLERANCE:
            raise MixtureError(
                f"The weights at step {self.step} must sum to 1; {dict(self.weights)} sum to {float(total):g}. "
                "Divide each by their sum."
            )


class WeightScheduler:
    """Weights between schedule points; before the first and after the last point they stay as they are there.

    Attributes:
        schedule: The points in ascending order of their steps.
        interpolation: Shape between two points: `step` keeps the earlier one's weights, `linear` is a straight
            line, `cosine` is (1 − cos πt)/2.
        unit: What `step` counts.
    """

    def __init__(
        self,
        schedule: Sequence[WeightSchedulePoint],
        interpolation: Interpolation = "step",
        *,
        unit: Unit = "step",
    ) -> None:
        """Checks the schedule.

        Args:
            schedule: At least one point, in any order, at most one per step; all name the same sources.
            interpolation: `step`, `linear` or `cosine`.
            unit: `step` (optimizer steps), `sample` (rows of the mixture) or `token`.

        Raises:
            MixtureError: If the points do not make one schedule, or an option is unknown.
        """
        _check_choice("interpolation", interpolation, get_args(Interpolation))
        _check_choice("unit", unit, get_args(Unit))
        if not schedule:
            raise MixtureError("The schedule is empty; give at least one WeightSchedulePoint(step=0, weights=…).")
        self.schedule = tuple(sorted(schedule, key=lambda point: point.step))
        self.interpolation: Interpolation = interpolation
        self.unit: Unit = unit
        self._check_points()

    @property
    def dataset_names(self) -> list[str]:
        """Names of the sources the schedule speaks of."""
        return list(self.schedule[0].weights)

    def get_weights(self, step: float) -> dict[str, float]:
        """Returns the weights at a moment, in the scheduler's unit; they sum to 1."""
        names = self.dataset_names
        after = next((i for i, point in enumerate(self.schedule) if point.step > step), len(self.schedule))
        left = self._shares(max(after - 1, 0), names)
        if after in (0, len(self.schedule)) or self.interpolation == "step":
            return dict(zip(names, map(float, left), strict=True))
        right = self._shares(after, names)
        before, behind = self.schedule[after - 1].step, self.schedule[after].step
        way = (step - before) / (behind - before)
        if self.interpolation == "cosine":
            way = (1 - math.cos(math.pi * way)) / 2
        return {name: float(a) * (1 - way) + float(b) * way for name, a, b in zip(names, left, right, strict=True)}

    def points_for(self, names: Sequence[str]) -> list[tuple[int, Shares]]:
        """Returns (step, shares) with the shares in the order of a mixture's sources, or raises if names differ."""
        self._check_names(names)
        return [(point.step, self._shares(index, names)) for index, point in enumerate(self.schedule)]

    def _shares(self, index: int, names: Sequence[str]) -> Shares:
        point = self.schedule[index]
        return exact_shares(point.weights, names, what=f"the weights at step {point.step}")

    def _check_names(self, names: Sequence[str]) -> None:
        exact_shares(self.schedule[0].weights, names, what=f"the weights at step {self.schedule[0].step}")

    def _check_points(self) -> None:
        names = set(self.dataset_names)
        for before, after in pairwise(self.schedule):
            if before.step == after.step:
                raise MixtureError(f"The schedule has two points at step {after.step}; keep one of them.")
            if set(after.weights) != names:
                raise MixtureError(
                    f"Every point must name the same sources: step {self.schedule[0].step} has "
                    f"{listed(sorted(names))}, step {after.step} has {listed(sorted(after.weights))}."
                )
            if self.interpolation == "cosine" and after.step - before.step > cosine.MAX_SPAN:
                raise MixtureError(
                    f"The cosine from step {before.step} to {after.step} is longer than {cosine.MAX_SPAN} ticks; "
                    "split it, or use linear interpolation."
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class ShareCurves:
    """The shares of a schedule, or constant ones, and the clock that they are read by."""

    points: tuple[tuple[int, Shares], ...]
    """(tick, shares), the ticks in `unit`; one point for shares that do not change."""
    interpolation: Interpolation = "step"
    unit: Unit = "sample"
    clock: Clock = field(default_factory=Clock)

    def among(self, live: Live) -> ShareCurve | None:
        """Returns the share curve over some of the sources; None if their weights are 0 for ever.

        Args:
            live: Indices of the sources that still have rows.

        Raises:
            MixtureError: If the unit needs a number that nobody has bound.
        """
        points = self._restricted(live)
        if not points:
            return None
        rates = {"rows_per_step": self.clock.rows_per_step, "tokens_per_row": self.clock.tokens_per_row}
        return schedule_curve(points, self.interpolation, self.unit if len(self.points) > 1 else "sample", **rates)

    def _restricted(self, live: Live) -> list[tuple[int, Shares]]:
        """Strikes the sources that ran out; points at which the others have no weight fall away."""
        restricted = []
        for tick, shares in self.points:
            total = sum(shares[index] for index in live)
            if total:
                kept = tuple(share / total if index in live else share * 0 for index, share in enumerate(shares))
                restricted.append((tick, kept))
        return restricted


def static_curves(shares: Shares) -> ShareCurves:
    """Returns the curves of shares that never change."""
    return ShareCurves(points=((0, shares),))


def schedule_curve(
    points: Sequence[tuple[int, Shares]],
    interpolation: Interpolation,
    unit: Unit,
    *,
    rows_per_step: int | None,
    tokens_per_row: Fraction | None,
) -> ShareCurve:
    """Returns the share curve of schedule points on the clock of rows.

    Raises:
        MixtureError: If the unit needs a number that nobody has bound.
    """
    if unit == "sample":
        return ShareCurve(points, interpolation=interpolation)
    if unit == "step":
        if rows_per_step is None:
            raise MixtureError(
                "This schedule counts optimizer steps, and nobody has said how many rows a step has. A trainer says "
                'it by itself; on your own call mixture.bind(rows_per_step=…), or use unit="sample".'
            )
        return ShareCurve(points, interpolation=interpolation, rows_per_tick=rows_per_step)
    if tokens_per_row is None:
        raise MixtureError(
            "This schedule counts tokens, and nobody has said how many tokens a row has on average. Call "
            'mixture.bind(tokens_per_row=…), or use unit="sample".'
        )
    # A point takes effect with the first row that starts at or after it; of two points in one row the later wins.
    in_rows = {math.ceil(tokens / tokens_per_row): shares for tokens, shares in points}
    return ShareCurve(list(in_rows.items()), interpolation=interpolation)


def _check_choice(option: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise MixtureError(f"`{option}` must be one of {', '.join(map(repr, choices))}; found {value!r}.")
