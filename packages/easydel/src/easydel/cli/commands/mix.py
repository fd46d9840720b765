"""`easydel mix simulate CONFIG.yaml`: what the mixture of a training will give, step by step, without reading rows."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, final

import tyro

from easydel.cli.output.errors import EXIT_OK, CommandError
from easydel.cli.settings.command_line import parse_flags
from easydel.cli.training.rows import Mixture


@final
@dataclass(frozen=True, kw_only=True)
class MixFlags:
    """Count the rows and passes of every source of a mixture over a run, and its shares over time. No row is read."""

    what: Annotated[Literal["simulate"], tyro.conf.Positional]
    """What to do with the mixture."""
    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CONFIG.yaml")]
    """Config file of a training whose train_dataset is a mixture."""
    steps: int | None = None
    """Optimizer steps to look ahead. None = the whole run."""
    points: int = 20
    """Moments to show."""
    json: bool = False
    """Print what was counted as one line of JSON."""


def run(words: Sequence[str], command: str) -> int:
    """Carries out one command line; returns the exit code."""
    flags = parse_flags(MixFlags, words, command=f"easydel {command}")
    for name in ("steps", "points"):
        value = getattr(flags, name)
        if value is not None and value < 1:
            raise CommandError(f"--{name}: found {value}; expected a whole number of at least 1.")
    with tempfile.TemporaryDirectory() as made_rows:
        simulation = _simulation(flags, Path(made_rows))
    if flags.json:
        from easydel.cli.output.console import print_json

        print_json(asdict(simulation))
    else:
        _print(simulation)
    return EXIT_OK


def _simulation(flags: MixFlags, made_rows: Path) -> Any:
    from easydel.cli.training.config_yaml import config_of_file
    from easydel.cli.training.rows import open_rows

    config = config_of_file(flags.file)
    if not isinstance(config.train_dataset, Mixture):
        raise CommandError(
            f"{flags.file}: `train_dataset` is {config.train_dataset!r}; expected a mixture: `sources`, and `weights` "
            "or a `schedule`."
        )
    mixture, training = open_rows(config.train_dataset, made_rows), config.training
    steps = flags.steps or training.max_training_steps or _steps_of(mixture, training)
    return mixture.simulate(  # pyright: ignore[reportAttributeAccessIssue] - a mixture opens as a mixed source
        steps, rows_per_step=training.total_batch_size, points=min(flags.points, steps)
    )


def _steps_of(mixture: Any, training: Any) -> int:
    try:
        return math.ceil(len(mixture) * training.num_train_epochs / training.total_batch_size)
    except TypeError:
        raise CommandError("The length of a source is unknown, so the run's is too. Say --steps N.") from None


def _print(simulation: Any) -> None:
    from rich.table import Table

    from easydel.cli.output.console import harmless_console

    console = harmless_console()
    table = Table("source", "rows", "share", "passes")
    for name, rows in simulation.rows.items():
        passes = simulation.epochs[name]
        share = rows / max(simulation.total_rows, 1)
        table.add_row(name, f"{rows:,}", f"{share:.1%}", "unknown" if passes is None else f"{passes:.2f}")
    console.print(table)
    print(f"{simulation.total_rows:,} rows in {simulation.steps:,} steps" + (", then it ends" * simulation.ended))
    width = max(20, min(60, console.width - 12))
    print("shares by step:\n" + simulation.plot(width))
