"""`easydel dpo | orpo | cpo | kto | bco | reward`: training on preferences from one config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from easydel_trainers.algorithms.bco.config import BCOConfig
from easydel_trainers.algorithms.cpo.config import CPOConfig
from easydel_trainers.algorithms.dpo.config import DPOConfig
from easydel_trainers.algorithms.kto.config import KTOConfig
from easydel_trainers.algorithms.orpo.config import ORPOConfig
from easydel_trainers.algorithms.reward.config import RewardConfig
from easydel_trainers.errors import ConfigError

from easydel.cli.errors import EXIT_OK
from easydel.cli.invocation import parse_invocation
from easydel.cli.printed import config_as_yaml


@dataclass(frozen=True, kw_only=True, slots=True)
class PreferenceRun:
    """What every command on preferences is told. Abstract: each adds its `training` options."""

    model: str
    """Model to train: a folder, a Hub id, a .gguf file, or package://PACKAGE/FILE in an installed package."""
    tokenizer: str | None = None
    """Folder, Hub id or .gguf file of the tokenizer. `None` = the model's own."""

    train_dataset: str
    """Rows to train on: a path, glob or URL of files, hub://OWNER/NAME:SPLIT, or
    demo://python-docs-preferences/train."""
    eval_dataset: str | None = None
    """Held-out rows, named the same way; measured before and after. `None` = no measurement."""
    eval_rows: int | None = None
    """Measure on this many of the held-out rows, from the first. `None` = all."""

    def __post_init__(self) -> None:
        """Check what only these commands know."""
        if self.eval_rows is not None and (self.eval_dataset is None or self.eval_rows < 1):
            raise ConfigError("eval_rows", self.eval_rows, "a whole number of at least 1, and an `eval_dataset`")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferencedRun(PreferenceRun):
    """What the commands that compare with a reference model are told. Abstract."""

    reference_model: str | None = None
    """Model to compare with, named as `model` is. `None` = the model as it is before training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DPORun(ReferencedRun):
    """Train on pairs of a chosen and a rejected answer, against a reference model (DPO and its relatives)."""

    training: DPOConfig = field(default_factory=DPOConfig)
    """Options of the trainer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ORPORun(PreferenceRun):
    """Train on pairs of a chosen and a rejected answer without a reference model, by odds ratios (ORPO)."""

    training: ORPOConfig = field(default_factory=ORPOConfig)
    """Options of the trainer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CPORun(PreferenceRun):
    """Train on pairs of a chosen and a rejected answer without a reference model (CPO, SimPO, AlphaPO)."""

    training: CPOConfig = field(default_factory=CPOConfig)
    """Options of the trainer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KTORun(ReferencedRun):
    """Train on single answers labelled good or bad, or on pairs of them (KTO)."""

    training: KTOConfig = field(default_factory=KTOConfig)
    """Options of the trainer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BCORun(ReferencedRun):
    """Train on single answers labelled good or bad, or on pairs of them, as a classifier (BCO)."""

    training: BCOConfig = field(default_factory=BCOConfig)
    """Options of the trainer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RewardRun(PreferenceRun):
    """Train a model that scores answers, on pairs of a chosen and a rejected one."""

    training: RewardConfig = field(default_factory=RewardConfig)
    """Options of the trainer."""


#: command -> (what it is told, the trainer's name in easydel_trainers)
_KINDS: dict[str, tuple[type[Any], str]] = {
    "dpo": (DPORun, "DPOTrainer"),
    "orpo": (ORPORun, "ORPOTrainer"),
    "cpo": (CPORun, "CPOTrainer"),
    "kto": (KTORun, "KTOTrainer"),
    "bco": (BCORun, "BCOTrainer"),
    "reward": (RewardRun, "RewardTrainer"),
}


def run(arguments: Sequence[str], command: str) -> int:
    """Carry out one command line; returns the exit code."""
    kind, trainer = _KINDS[command]
    invocation = parse_invocation(kind, arguments, command=f"easydel {command}")
    config = invocation.run
    if config.training.save_directory is None:
        config = replace(config, training=replace(config.training, save_directory=str(Path("runs", command))))
    if invocation.print_config:
        print(config_as_yaml(config), end="")
        return EXIT_OK

    from easydel.cli.preference_run import train_on_preferences

    train_on_preferences(config, trainer)
    return EXIT_OK
