"""`easydel inspect CONFIG.yaml`: the rows of a training, token by token, before it costs anything."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.text import Text

from easydel.cli.consoles import harmless_console
from easydel.cli.errors import EXIT_OK, CommandError
from easydel.cli.invocation import Config, Invocation, parse_invocation, settings_of
from easydel.cli.recognised import training_command_of
from easydel.cli.shown import print_json
from easydel.cli.training import TRAINING_COMMANDS

_DESCRIPTION = """\
Show the very rows, template, masks, cuts and packing that a training would use.

CONFIG.yaml is the file of the training; the flags of its command are accepted too. Which command that is, the file says
(`trainer: dpo`), or `--trainer dpo` does; else the columns of its first row decide. No model is loaded, nothing is
trained. Trained tokens are coloured; without colours each line begins with what its tokens are.
"""


@dataclass(frozen=True, kw_only=True)
class InspectInvocation(Invocation[Config]):
    """The flags of `inspect` besides those of the training."""

    html: str | None = None
    """Write everything as one HTML page to this file; it needs no network."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print what was found as one line of JSON, and nothing else on standard output."""
    rows: int = 8
    """Rows to show token by token, from the first of the training order; examples of warnings follow."""
    sample: int = 256
    """Rows to take lengths, trained shares and warnings from."""
    show: tuple[int, ...] = ()
    """Numbers of further rows to show, counted from 1 in training order, inside the sample."""


def run(arguments: Sequence[str], command: str) -> int:
    """Carry out one command line; returns the exit code."""
    words, named = _without_trainer(list(arguments))
    kind_name, guessed = (named, None) if named else _trainer_of(words)
    kind = TRAINING_COMMANDS[kind_name]
    invocation = parse_invocation(
        kind.config, words, command=f"easydel {command}", shape=InspectInvocation, description=_DESCRIPTION
    )
    for name in ("rows", "sample"):
        if getattr(invocation, name) < 1:
            raise CommandError(f"--{name}: found {getattr(invocation, name)}; expected a whole number of at least 1.")
    if guessed is not None:
        note = f"Looking at the rows as `easydel {kind_name}` would: {guessed}. `trainer: {kind_name}` in the file, or "
        harmless_console(stderr=True).print(Text(f"{note}--trainer, says it."), soft_wrap=True)
    _inspect(invocation, kind.trainer, kind_name)
    return EXIT_OK


def _inspect(invocation: Any, trainer_name: str, kind_name: str) -> None:
    from easydel.cli.assembly import assembled_without_model, without_held_out
    from easydel.inspector import inspect_rows, inspection_page, print_inspection

    config = without_held_out(invocation.run)
    with tempfile.TemporaryDirectory() as made_rows:
        data = assembled_without_model(config, trainer_name, made_rows=Path(made_rows))
        inspection = inspect_rows(data, shown=invocation.rows, sample=invocation.sample, more=invocation.show)
    inspection = _with_names_that_last(inspection, made_rows)
    if invocation.html is not None:
        target = Path(invocation.html)
        source = "the command line" if invocation.file is None else str(invocation.file)
        try:
            target.write_text(inspection_page(inspection, command=kind_name, source=source), encoding="utf-8")
        except OSError as error:
            raise CommandError(f"--html {target} cannot be written: {error.strerror}.") from None
    if invocation.json:
        print_json(_as_plain(inspection))
        return
    console = harmless_console()
    print_inspection(console, inspection)
    if invocation.html is not None:
        console.print(Text(f"Page: {invocation.html}"), soft_wrap=True)


def _with_names_that_last(inspection: Any, made_rows: str) -> Any:
    """Rows made on the spot lay in a folder that is gone by now."""
    rows = [
        replace(row, raw=replace(row.raw, file=row.raw.file.removeprefix(f"{made_rows}/"))) for row in inspection.rows
    ]
    return replace(inspection, rows=tuple(rows))


def _without_trainer(words: list[str]) -> tuple[list[str], str | None]:
    """Take `--trainer NAME` out of the words: it decides which flags there are."""
    for place, word in enumerate(words):
        if word == "--trainer" or word.startswith("--trainer="):
            name = word.partition("=")[2] or "".join(words[place + 1 : place + 2])
            if name not in TRAINING_COMMANDS:
                raise CommandError(f"--trainer: found {name!r}; expected one of {', '.join(TRAINING_COMMANDS)}.")
            return words[:place] + words[place + (1 if "=" in word else 2) :], name
    return words, None


def _trainer_of(words: list[str]) -> tuple[str, str | None]:
    if not {"-h", "--help"}.isdisjoint(words):
        return "sft", None
    return training_command_of(settings_of(words))


def _as_plain(inspection: Any) -> dict[str, Any]:
    plain = asdict(inspection)
    for row, full in zip(plain["rows"], inspection.rows, strict=True):
        row["raw"]["columns"] = {name: str(value)[:2000] for name, value in full.raw.columns.items()}
    plain["fill"] = inspection.fill
    return plain
