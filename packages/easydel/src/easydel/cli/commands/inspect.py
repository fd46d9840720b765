"""`easydel inspect CONFIG.yaml`: the rows of a training, token by token, before it costs anything."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, final

from rich.text import Text

from easydel.cli.output.console import harmless_console, print_json
from easydel.cli.output.errors import EXIT_OK, CommandError
from easydel.cli.settings.command_line import FileFlags, parse_run, untyped_settings
from easydel.cli.training.config_yaml import config_as_yaml, training_command_of
from easydel.cli.training.configs import TRAINING_COMMANDS, Run

_DESCRIPTION = """\
Show the very rows, template, masks, cuts and packing that a training would use.

CONFIG.yaml is the file of the training; the flags of its command are accepted too. Which command that is, the file says
(`trainer: dpo`), or `--trainer dpo` does; else the columns of its first row decide. No model is loaded, nothing is
trained. Trained tokens are coloured; without colours each line begins with what its tokens are.
"""


@final
@dataclass(frozen=True, kw_only=True)
class InspectFlags(FileFlags):
    """The flags of `inspect` besides those of the training."""

    html: str | None = None
    """Write everything as one HTML page to this file; it needs no network."""
    json: bool = False
    """Print what was found as one line of JSON, and nothing else on standard output."""
    rows: int = 8
    """Rows to show token by token, from the first of the training order; examples of warnings follow."""
    sample: int = 256
    """Rows to take lengths, trained shares and warnings from."""
    show: tuple[int, ...] = ()
    """Numbers of further rows to show, counted from 1 in training order, inside the sample."""


def run(words: Sequence[str], command: str) -> int:
    """Carries out one command line; returns the exit code."""
    name, guessed = training_command_of(untyped_settings(words))
    flags, config = parse_run(
        InspectFlags, TRAINING_COMMANDS[name].config, words, command=f"easydel {command}", description=_DESCRIPTION
    )
    for number in ("rows", "sample"):
        if getattr(flags, number) < 1:
            raise CommandError(f"--{number}: found {getattr(flags, number)}; expected a whole number of at least 1.")
    if flags.print_config:
        print(config_as_yaml(config), end="")
        return EXIT_OK
    if guessed is not None:
        note = f"Looking at the rows as `easydel {name}` would: {guessed}. `trainer: {name}` in the file, or --trainer,"
        harmless_console(stderr=True).print(Text(f"{note} says it."), soft_wrap=True)
    _inspect(flags, config)
    return EXIT_OK


def _inspect(flags: InspectFlags, config: Run) -> None:
    from easydel.cli.training.trainer import training_data, without_held_out
    from easydel.inspector import inspect_rows, inspection_page, print_inspection

    with tempfile.TemporaryDirectory() as made_rows:
        data = training_data(without_held_out(config), made_rows=Path(made_rows))
        inspection = inspect_rows(data, shown=flags.rows, sample=flags.sample, more=flags.show)
    inspection = _with_names_that_last(inspection, made_rows)
    if flags.html is not None:
        target = Path(flags.html)
        source = "the command line" if flags.file is None else str(flags.file)
        try:
            target.write_text(inspection_page(inspection, command=config.trainer, source=source), encoding="utf-8")
        except OSError as error:
            raise CommandError(f"--html {target} cannot be written: {error.strerror}.") from None
    if flags.json:
        print_json(_as_plain(inspection))
        return
    console = harmless_console()
    print_inspection(console, inspection)
    if flags.html is not None:
        console.print(Text(f"Page: {flags.html}"), soft_wrap=True)


def _with_names_that_last(inspection: Any, made_rows: str) -> Any:
    """Rows made on the spot lay in a folder that is gone by now."""
    rows = [
        replace(row, raw=replace(row.raw, file=row.raw.file.removeprefix(f"{made_rows}/"))) for row in inspection.rows
    ]
    return replace(inspection, rows=tuple(rows))


def _as_plain(inspection: Any) -> dict[str, Any]:
    plain = asdict(inspection)
    for row, full in zip(plain["rows"], inspection.rows, strict=True):
        row["raw"]["columns"] = {name: str(value)[:2000] for name, value in full.raw.columns.items()}
    plain["fill"] = inspection.fill
    return plain
