"""Rows of several sources, mixed by weights or by a schedule, as a config file writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from easydata_mix import WeightSchedulePoint
from easydel_trainers.errors import ConfigError
from tyro.constructors import PrimitiveConstructorSpec

Interpolation: TypeAlias = Literal["step", "linear", "cosine"]
Unit: TypeAlias = Literal["step", "sample", "token"]
Stop: TypeAlias = Literal["restart", "first_exhausted", "all_exhausted"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixture:
    """What `train_dataset` may be instead of one name."""

    sources: dict[str, str]
    """Names of your choice, each with rows as `train_dataset` names them."""
    weights: dict[str, float] | None = None
    """Share of each source; their ratio counts. `None` = equal shares, or the schedule's."""
    schedule: tuple[WeightSchedulePoint, ...] = ()
    """Shares that change: a list of `step` and `weights`, the weights of each summing to 1. Instead of `weights`."""
    interpolation: Interpolation = "linear"
    """Between two points of the schedule: keep the earlier weights (`step`), a straight line, or half a cosine."""
    unit: Unit = "step"
    """What the `step` of a point counts: optimizer steps, rows (`sample`) or tokens."""
    block_size: int = 1000
    """Rows after which the shares are exact. 1 = sources alternate as evenly as their shares allow."""
    seed: int = 42
    """Seed of the order inside a block."""
    stop: Stop = "restart"
    """When a source runs out: `restart` it, end the mixture (`first_exhausted`), or go on without it until all are
    read (`all_exhausted`)."""

    def __post_init__(self) -> None:
        """Check what can be known before a source is opened."""
        if not self.sources:
            raise ConfigError("sources", self.sources, "at least one name with its rows, such as chat: chats/*.jsonl")
        if self.weights is not None and self.schedule:
            raise ConfigError("weights", self.weights, "None beside a `schedule`, which has weights of its own")
        if self.block_size < 1:
            raise ConfigError("block_size", self.block_size, "a whole number of at least 1")


def _from_words(words: Sequence[str]) -> str:
    return words[0]


def _to_words(value: Any) -> list[str]:
    return [value if isinstance(value, str) else f"a mixture of {', '.join(value.sources)}"]


#: A path, glob, URL or name of ours; in a file also a mixture of several. A flag can only be one word.
Rows: TypeAlias = Annotated[
    str | Mixture,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="ROWS",
        instance_from_str=_from_words,
        is_instance=lambda value: isinstance(value, str | Mixture),
        str_from_instance=_to_words,
    ),
]
