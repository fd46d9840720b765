"""The commands that train: from one config to a trained model, or to a look at what training would do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from easydel.cli.errors import EXIT_OK
from easydel.cli.grpo import GRPORun
from easydel.cli.invocation import Invocation, parse_invocation
from easydel.cli.preference import BCORun, CPORun, DPORun, KTORun, ORPORun, RewardRun
from easydel.cli.printed import config_as_yaml
from easydel.cli.run_config import RunConfig
from easydel.cli.settings import read_settings
from easydel.cli.sft import SFTRun
from easydel.cli.typed import build_config

Config = TypeVar("Config")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingCommand:
    """A command that trains.

    Attributes:
        config: what it is told.
        trainer: the trainer's name in `easydel_trainers`.
        conduct: module with `conduct(config, trainer, as_json=…)`, which does it.
    """

    config: type[RunConfig]
    trainer: str
    conduct: str = "easydel.cli.preference_run"


TRAINING_COMMANDS = {
    "sft": TrainingCommand(config=SFTRun, trainer="SFTTrainer", conduct="easydel.cli.sft_run"),
    "dpo": TrainingCommand(config=DPORun, trainer="DPOTrainer"),
    "orpo": TrainingCommand(config=ORPORun, trainer="ORPOTrainer"),
    "cpo": TrainingCommand(config=CPORun, trainer="CPOTrainer"),
    "kto": TrainingCommand(config=KTORun, trainer="KTOTrainer"),
    "bco": TrainingCommand(config=BCORun, trainer="BCOTrainer"),
    "grpo": TrainingCommand(config=GRPORun, trainer="GRPOTrainer"),
    "reward": TrainingCommand(config=RewardRun, trainer="RewardTrainer"),
}


@dataclass(frozen=True, kw_only=True)
class TrainingInvocation(Invocation[Config]):
    """The flags that every training command has besides its config."""

    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Build everything, read the first rows, compile and time a few steps; show what was found, and stop. Nothing is
    written."""

    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print the result as one line of JSON and nothing else on standard output."""


def run(arguments: Sequence[str], command: str) -> int:
    """Carry out one command line; returns the exit code."""
    kind = TRAINING_COMMANDS[command]
    invocation = parse_invocation(kind.config, arguments, command=f"easydel {command}", shape=TrainingInvocation)
    config: Any = with_save_directory(invocation.run, command)
    if invocation.print_config:
        print(config_as_yaml(config), end="")
    elif invocation.dry_run:
        import_module("easydel.cli.dry_run").show_dry_run(config, kind.trainer, as_json=invocation.json)
    else:
        import_module(kind.conduct).conduct(config, kind.trainer, as_json=invocation.json)
    return EXIT_OK


def with_save_directory(config: Any, command: str) -> Any:
    """The config with a folder to save to, if none was named."""
    if config.training.save_directory is not None:
        return config
    return replace(config, training=replace(config.training, save_directory=str(Path("runs", command))))


def config_of_file(file: Path) -> tuple[Any, TrainingCommand]:
    """A config file of whatever training, and what it is for.

    Raises:
        CommandError: if the file is wrong, or does not say which command it is for and its rows do not either.
    """
    from easydel.cli.recognised import training_command_of

    settings = read_settings(file)
    name, _ = training_command_of(settings)
    kind = TRAINING_COMMANDS[name]
    return with_save_directory(build_config(kind.config, settings), name), kind
