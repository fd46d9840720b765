"""`easydel sft | dpo | …`: from one config to a trained model, or to a look at what training would do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from easydel.cli.output.errors import EXIT_OK
from easydel.cli.settings.command_line import FileFlags, parse_run
from easydel.cli.training.config_yaml import config_as_yaml
from easydel.cli.training.configs import TRAINING_COMMANDS, with_save_directory


@final
@dataclass(frozen=True, kw_only=True)
class TrainFlags(FileFlags):
    """The flags that every training command has besides its config."""

    dry_run: bool = False
    """Build everything, read the first rows, compile and time a few steps; show what was found, and stop. Nothing is
    written."""

    json: bool = False
    """Print the result as one line of JSON and nothing else on standard output."""


def run(words: Sequence[str], command: str) -> int:
    """Carries out one command line; returns the exit code."""
    flags, config = parse_run(TrainFlags, TRAINING_COMMANDS[command].config, words, command=f"easydel {command}")
    config = with_save_directory(config)
    if flags.print_config:
        print(config_as_yaml(config), end="")
    elif flags.dry_run:
        from easydel.cli.training.dry_run import show_dry_run

        show_dry_run(config, as_json=flags.json)
    else:
        from easydel.cli.training.run import run_training

        run_training(config, as_json=flags.json)
    return EXIT_OK
