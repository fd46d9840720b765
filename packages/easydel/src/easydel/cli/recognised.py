"""Which training command a config file is for, when only the file is given."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from easydel.cli.errors import CommandError
from easydel.cli.locations import open_rows
from easydel.cli.settings import Setting
from easydel.cli.training import TRAINING_COMMANDS


def training_command_of(settings: Setting) -> tuple[str, str | None]:
    """The command that a file is for, and, if the file does not say it by `trainer`, how it was guessed.

    Raises:
        CommandError: if `trainer` names no command.
    """
    written = settings.value.get("trainer")
    if written is not None:
        if written.value not in TRAINING_COMMANDS:
            known = ", ".join(TRAINING_COMMANDS)
            raise CommandError(f"{written.where}: `trainer` is {written.value!r}; expected one of {known}.")
        return written.value, None
    rows = settings.value.get("train_dataset")
    columns = set() if rows is None else _first_columns(rows.value)
    if {"chosen", "rejected"} <= columns or {"chosen_ids", "rejected_ids"} <= columns:
        return "dpo", "its rows have `chosen` and `rejected`"
    if "label" in columns:
        return "kto", "its rows have a `label`"
    return "sft", "its rows have neither `chosen` and `rejected` nor a `label`"


def _first_columns(rows: Any) -> set[str]:
    """The columns of the first row of a data set, or of a mixture's first source."""
    if isinstance(rows, dict):
        sources = rows.get("sources")
        names = [] if sources is None or not isinstance(sources.value, dict) else list(sources.value.values())
        return _first_columns(names[0].value) if names else set()
    if not isinstance(rows, str):
        return set()  # what is wrong with it is for the typed reading to say
    with tempfile.TemporaryDirectory() as folder:
        return set(next(iter(open_rows(rows, Path(folder)).rows()), {}))
