"""The recipe of a mixture: its options, checked once and made exact. Two equal recipes give one order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, get_args

from easydata_mix.errors import MixtureError
from easydata_mix.plan.block_order import check_seed
from easydata_mix.plan.clock import Clock
from easydata_mix.plan.schedule import ShareCurves, WeightScheduler
from easydata_mix.plan.types import Interpolation, Shares, Stop, Unit, WeightBy
from easydata_mix.plan.weights import exact_shares


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Everything the order of a mixture depends on, except the rows, weight edits and the clock."""

    names: tuple[str, ...]
    points: tuple[tuple[int, Shares], ...]
    """(tick, shares) of the schedule; one point for weights that do not change."""
    interpolation: Interpolation
    unit: Unit
    block_size: int
    seed: int
    stop: Stop
    weight_by: WeightBy
    length_field: str | None

    @property
    def scheduled(self) -> bool:
        """Whether the shares change over the run."""
        return len(self.points) > 1

    @property
    def drawn(self) -> list[int]:
        """Indices of the sources that have a weight at some time."""
        return [index for index in range(len(self.names)) if any(shares[index] for _, shares in self.points)]

    def curves(self, clock: Clock) -> ShareCurves:
        """Returns the share curves on a clock."""
        return ShareCurves(points=self.points, interpolation=self.interpolation, unit=self.unit, clock=clock)

    def require_clock(self, clock: Clock) -> None:
        """Raises if the schedule counts in a unit whose rate is not bound."""
        self.curves(clock).among(tuple(range(len(self.names))))

    def identity(self) -> dict[str, Any]:
        """Returns what a saved state says about its mixture, as plain JSON types."""
        shares = repr((self.names, self.points, self.interpolation, self.unit))
        return {
            "seed": self.seed,
            "block_size": self.block_size,
            "stop": self.stop,
            "shares": blake2b(shares.encode(), digest_size=8).hexdigest(),
            **({"weight_by": self.weight_by} if self.weight_by != "row" else {}),
        }


def make_recipe(
    names: Sequence[str],
    weights: Mapping[str, float] | Sequence[float] | None,
    weight_scheduler: WeightScheduler | None,
    *,
    block_size: int,
    seed: int,
    stop: Stop,
    weight_by: WeightBy = "row",
    length_field: str | None = None,
) -> Recipe:
    """Checks the options of a mixture.

    Raises:
        MixtureError: If they contradict each other, or the sources.
    """
    if type(block_size) is not int or block_size < 1:
        raise MixtureError(
            f"`block_size` must be a whole number of rows >= 1; found {block_size!r}. 1 gives the even order."
        )
    if stop not in get_args(Stop):
        raise MixtureError(f"`stop` must be one of {', '.join(map(repr, get_args(Stop)))}; found {stop!r}.")
    if weight_by not in get_args(WeightBy):
        raise MixtureError(
            f"`weight_by` must be one of {', '.join(map(repr, get_args(WeightBy)))}; found {weight_by!r}."
        )
    if length_field is not None and weight_by != "token":
        raise MixtureError(f"`length_field` {length_field!r} means something only with weight_by='token'.")
    if weight_scheduler is not None and weights is not None:
        raise MixtureError(
            "Give `weights` or `weight_scheduler`, not both. Weights that hold before the first point of a schedule "
            "are those of that point."
        )
    if weight_scheduler is not None and not isinstance(weight_scheduler, WeightScheduler):
        raise MixtureError(f"`weight_scheduler` must be a WeightScheduler; found {type(weight_scheduler).__name__}.")
    points = weight_scheduler.points_for(names) if weight_scheduler else [(0, exact_shares(weights, names))]
    return Recipe(
        names=tuple(names),
        points=tuple(points),
        interpolation=weight_scheduler.interpolation if weight_scheduler else "step",
        unit=weight_scheduler.unit if weight_scheduler else "sample",
        block_size=block_size,
        seed=check_seed(seed),
        stop=stop,
        weight_by=weight_by,
        length_field=length_field,
    )
