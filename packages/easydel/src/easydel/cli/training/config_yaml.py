"""A training's config as a YAML file: written, so that it gives the same config again; read; told what it is for."""

from __future__ import annotations

import tempfile
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from easydata_sources.safe_text import without_secrets

from easydel.cli.output.errors import CommandError
from easydel.cli.settings.build import build_config
from easydel.cli.settings.tree import Setting, Words, read_settings
from easydel.cli.training.configs import TRAINING_COMMANDS, Run, with_save_directory
from easydel.cli.training.rows import open_rows

RUN_FILE = "run.yaml"
"""What a run's folder holds of its config."""


def config_as_yaml(config: Any) -> str:
    """Writes every field of a config dataclass, nested ones as sections, in the order they are declared.

    Passwords and signatures of addresses are left out: whoever goes on with the run gives them again.
    """
    text = yaml.safe_dump(_plain(config), sort_keys=False, allow_unicode=True, default_flow_style=False, width=110)
    return without_secrets(text)


def config_of_file(file: Path) -> Run:
    """Returns the config in a file of whatever training.

    Raises:
        CommandError: if the file is wrong, or names a command that there is not.
    """
    settings = read_settings(file)
    name, _ = training_command_of(settings)
    return with_save_directory(build_config(TRAINING_COMMANDS[name].config, settings))


def config_of_run(folder: Path) -> Run:
    """Returns the config that a training command left in a run's folder, of which nothing but its text is trusted.

    Raises:
        CommandError: if there is none, or it does not say which command it is of.
    """
    file = folder / RUN_FILE
    if not file.is_file():
        raise CommandError(
            f"{folder} has no {RUN_FILE}, which training commands leave there to say what the run was. For a run of a "
            "script, call trainer.restore() and trainer.save_pretrained(…) in it."
        )
    settings = read_settings(file)
    name = _written(settings, "trainer")
    if not isinstance(name, str) or name not in TRAINING_COMMANDS:
        expected = ", ".join(TRAINING_COMMANDS)
        raise CommandError(f"{file} does not say whose run it is; expected `trainer:` with one of {expected}.")
    config = build_config(TRAINING_COMMANDS[name].config, settings)
    return replace(config, training=replace(config.training, save_directory=str(folder)))


def training_command_of(settings: Setting) -> tuple[str, str | None]:
    """Returns the command that settings are for, and, if they do not say it by `trainer`, how it was guessed.

    Raises:
        CommandError: if `trainer` names no command.
    """
    name = _written(settings, "trainer")
    if name is not None:
        if not isinstance(name, str) or name not in TRAINING_COMMANDS:
            where, known = settings.value["trainer"].where, ", ".join(TRAINING_COMMANDS)
            said = repr(name) if isinstance(name, str) else "no name"
            raise CommandError(f"{where}: `trainer` is {said}; expected one of {known}.")
        return name, None
    columns = _first_columns(_written(settings, "train_dataset"))
    if {"chosen", "rejected"} <= columns or {"chosen_ids", "rejected_ids"} <= columns:
        return "dpo", "its rows have `chosen` and `rejected`"
    if "label" in columns:
        return "kto", "its rows have a `label`"
    return "sft", "its rows have neither `chosen` and `rejected` nor a `label`"


def _written(settings: Setting, key: str) -> Any:
    """Returns what stands under a key before its type is known; `None` if nothing does."""
    setting = settings.value.get(key)
    if setting is None:
        return None
    return " ".join(setting.value) if isinstance(setting.value, Words) else setting.value


def _first_columns(rows: Any) -> set[str]:
    """Returns the columns of the first row of a data set, or of a mixture's first source."""
    if isinstance(rows, dict):
        sources = rows.get("sources")
        names = [] if sources is None or not isinstance(sources.value, dict) else list(sources.value.values())
        return _first_columns(names[0].value) if names else set()
    if not isinstance(rows, str):
        return set()  # what is wrong with it is for the typed reading to say
    with tempfile.TemporaryDirectory() as folder:
        return set(next(iter(open_rows(rows, Path(folder)).rows()), {}))


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
