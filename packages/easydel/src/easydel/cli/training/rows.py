"""Rows as a config names them: one data set, a mixture of several, or sets to measure on; and how they are opened.

Besides paths, globs and bucket URLs a config may say

    package://my_rows/train.parquet              a file inside an installed Python package
    hub://tatsu-lab/alpaca:train                 one split of a data set on the Hugging Face Hub
    demo://python-docs/train                     rows that this machine makes itself
    demo://python-docs-preferences/train         the same with a chosen and a rejected answer
    demo://arithmetic/train                      prompts that ask for a sum, with the right answer
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, final

from easydata_mix import WeightSchedulePoint
from easydel_trainers.errors import ConfigError
from tyro.constructors import PrimitiveConstructorSpec

if TYPE_CHECKING:
    from easydata_mix import MixedShardedSource
    from easydata_sources import ShardedDataSource

_DEMO = "demo://"

Interpolation: TypeAlias = Literal["step", "linear", "cosine"]
Unit: TypeAlias = Literal["step", "sample", "token"]
Stop: TypeAlias = Literal["restart", "first_exhausted", "all_exhausted"]


@final
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
        """Checks what can be known before a source is opened."""
        if not self.sources:
            raise ConfigError("sources", self.sources, "at least one name with its rows, such as chat: chats/*.jsonl")
        if self.weights is not None and self.schedule:
            raise ConfigError("weights", self.weights, "None beside a `schedule`, which has weights of its own")
        if self.block_size < 1:
            raise ConfigError("block_size", self.block_size, "a whole number of at least 1")


def _drawn_as(metavar: str) -> PrimitiveConstructorSpec[Any]:
    """Returns how `--help` draws what a flag can say in one word only."""
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: words[0],
        is_instance=lambda value: True,
        str_from_instance=lambda value: [str(value)],
    )


#: A path, glob, URL or name of ours; in a file also a mixture of several. A flag can only be one word.
Rows: TypeAlias = Annotated[str | Mixture, _drawn_as("ROWS")]
#: The same, or several sets by names of your choice in a file.
HeldOut: TypeAlias = Annotated[str | dict[str, str] | None, _drawn_as("None|ROWS")]


def metric_prefixes(sets: str | Mapping[str, str] | None) -> dict[str, str]:
    """Returns what the metrics of each held-out set begin with, by the set's name; a single set has the name ""."""
    if sets is None:
        return {}
    return {"": "eval_"} if isinstance(sets, str) else {name: f"eval_{name}_" for name in sets}


def open_rows(rows: str | Mixture, folder: Path) -> ShardedDataSource:
    """Opens a data set, or several as one.

    Args:
        rows: a name, see above, or a mixture of such.
        folder: where rows made on this machine are written, as the JSON lines they are then read from.

    Raises:
        DataError: what the sources raise for names and files they cannot read.
    """
    from easydata_sources import as_sharded_source

    if isinstance(rows, Mixture):
        return _mixed(rows, folder)
    if rows.startswith(_DEMO):
        return as_sharded_source(_demo_file(rows.removeprefix(_DEMO), folder))
    return as_sharded_source(rows)


def _mixed(mixture: Mixture, folder: Path) -> MixedShardedSource:
    from easydata_mix import MixedShardedSource, WeightScheduler

    scheduler = None
    if mixture.schedule:
        scheduler = WeightScheduler(mixture.schedule, mixture.interpolation, unit=mixture.unit)
    return MixedShardedSource(
        {name: open_rows(rows, folder) for name, rows in mixture.sources.items()},
        mixture.weights,
        mixture.block_size,
        mixture.seed,
        mixture.stop,
        weight_scheduler=scheduler,
    )


def _demo_file(name: str, folder: Path) -> Path:
    """Writes rows of the demo whole or not at all: the file's name appears only once every row is on the disk."""
    from easydel_trainers.records.files import write_lines

    from easydel.demo.named import demo_rows

    rows = demo_rows(name)
    path = folder / f"{name.replace('/', '-')}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_lines(path, rows)
    return path
