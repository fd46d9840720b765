"""What each training command is told: its config file's keys, and its flags."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, final

from easydel_trainers.algorithms.bco.config import BCOConfig
from easydel_trainers.algorithms.cpo.config import CPOConfig
from easydel_trainers.algorithms.dpo.config import DPOConfig
from easydel_trainers.algorithms.grpo.config import GRPOConfig
from easydel_trainers.algorithms.kto.config import KTOConfig
from easydel_trainers.algorithms.orpo.config import ORPOConfig
from easydel_trainers.algorithms.reward.config import RewardConfig
from easydel_trainers.algorithms.sft.config import SFTConfig
from easydel_trainers.errors import ConfigError
from tyro.conf import Suppress

from easydel.cli.training.rows import HeldOut, Rows


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """Abstract: what all are told. Each command adds its name as `trainer`, and its options as `training`."""

    model: str
    """Model to train: a folder, a Hub id, a .gguf file, or package://PACKAGE/FILE in an installed package."""
    tokenizer: str | None = None
    """Folder, Hub id or .gguf file of the tokenizer. `None` = the model's own."""

    train_dataset: Rows
    """Rows to train on: a path, glob or URL of files, hub://OWNER/NAME:SPLIT, demo://NAME/SPLIT; in a file also a
    mixture: `sources` with `weights` or a `schedule`."""
    eval_dataset: HeldOut = None
    """Held-out rows, named the same way; measured before and after. In a file also several sets by names of your
    choice, measured apart. `None` = no measurement."""
    eval_rows: int | None = None
    """Measure on this many rows of each held-out set, from the first. `None` = all."""

    def __post_init__(self) -> None:
        """Checks what only the command line knows."""
        if self.eval_dataset == {}:
            raise ConfigError("eval_dataset", self.eval_dataset, "None, one name of rows, or several by names")
        if self.eval_rows is None:
            return
        if self.eval_rows < 1:
            raise ConfigError("eval_rows", self.eval_rows, "a whole number of at least 1")
        if self.eval_dataset is None:
            raise ConfigError("eval_rows", self.eval_rows, "an `eval_dataset` beside it, whose rows it counts")


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class SFTRun(RunConfig):
    """Fine-tune a model on text, conversations or prompts with completions.

    Reads a YAML file, flags, or both; a flag wins over `--set`, and `--set` over the file. The model folder,
    the checkpoints and the log go into `training.save_directory` (runs/sft if none is named). Run the same
    command again to go on from the last checkpoint.
    """

    trainer: Annotated[Literal["sft"], Suppress] = "sft"
    """The command that a file is for; others refuse it."""

    preview_rows: int = 0
    """Show the model's answers to the questions of this many held-out rows, before and after. 0 = none."""
    preview_questions: tuple[str, ...] = ()
    """Further questions to show answers to."""
    preview_max_tokens: int = 64
    """Longest answer shown, in tokens."""

    require_nll_drop: float | None = None
    """Share by which the held-out loss (of each set) must fall, else the exit code is 1: 0.1 = 10 %. `None` = no
    demand."""

    training: SFTConfig = field(default_factory=SFTConfig)
    """Options of the trainer."""

    def __post_init__(self) -> None:
        """Checks what only this command knows."""
        RunConfig.__post_init__(self)
        if self.eval_dataset is None:
            if self.preview_rows:
                raise ConfigError(
                    "preview_rows", self.preview_rows, "an `eval_dataset` beside it, whose rows it counts"
                )
            if self.require_nll_drop is not None:
                raise ConfigError("require_nll_drop", self.require_nll_drop, "an `eval_dataset` to measure it on")
        for name, value, least in (
            ("preview_rows", self.preview_rows, 0),
            ("preview_max_tokens", self.preview_max_tokens, 1),
        ):
            if value < least:
                raise ConfigError(name, value, f"a whole number of at least {least}")
        if self.require_nll_drop is not None and not 0 < self.require_nll_drop < 1:
            raise ConfigError("require_nll_drop", self.require_nll_drop, "a share between 0 and 1, for example 0.1")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferencedRun(RunConfig):
    """Abstract: what those that compare with a reference model are told as well."""

    reference_model: str | None = None
    """Model to compare with, named as `model` is. `None` = the model as it is before training."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class DPORun(ReferencedRun):
    """Train on pairs of a chosen and a rejected answer, against a reference model (DPO and its relatives)."""

    trainer: Annotated[Literal["dpo"], Suppress] = "dpo"
    """The command that a file is for; others refuse it."""
    training: DPOConfig = field(default_factory=DPOConfig)
    """Options of the trainer."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ORPORun(RunConfig):
    """Train on pairs of a chosen and a rejected answer without a reference model, by odds ratios (ORPO)."""

    trainer: Annotated[Literal["orpo"], Suppress] = "orpo"
    """The command that a file is for; others refuse it."""
    training: ORPOConfig = field(default_factory=ORPOConfig)
    """Options of the trainer."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class CPORun(RunConfig):
    """Train on pairs of a chosen and a rejected answer without a reference model (CPO, SimPO, AlphaPO)."""

    trainer: Annotated[Literal["cpo"], Suppress] = "cpo"
    """The command that a file is for; others refuse it."""
    training: CPOConfig = field(default_factory=CPOConfig)
    """Options of the trainer."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class KTORun(ReferencedRun):
    """Train on single answers labelled good or bad, or on pairs of them (KTO)."""

    trainer: Annotated[Literal["kto"], Suppress] = "kto"
    """The command that a file is for; others refuse it."""
    training: KTOConfig = field(default_factory=KTOConfig)
    """Options of the trainer."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class BCORun(ReferencedRun):
    """Train on single answers labelled good or bad, or on pairs of them, as a classifier (BCO)."""

    trainer: Annotated[Literal["bco"], Suppress] = "bco"
    """The command that a file is for; others refuse it."""
    training: BCOConfig = field(default_factory=BCOConfig)
    """Options of the trainer."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class RewardRun(RunConfig):
    """Train a model that scores answers, on pairs of a chosen and a rejected one."""

    trainer: Annotated[Literal["reward"], Suppress] = "reward"
    """The command that a file is for; others refuse it."""
    training: RewardConfig = field(default_factory=RewardConfig)
    """Options of the trainer."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class GRPORun(ReferencedRun):
    """Train on the model's own answers to prompts, judged by reward functions within the group of a prompt (GRPO)."""

    trainer: Annotated[Literal["grpo"], Suppress] = "grpo"
    """The command that a file is for; others refuse it."""
    reward_funcs: tuple[str, ...]
    """What judges the answers: MODULE:FUNCTION, PATH.py:FUNCTION, or a reward model's folder, Hub id or .gguf file."""
    training: GRPOConfig = field(default_factory=GRPOConfig)
    """Options of the trainer."""

    def __post_init__(self) -> None:
        """Checks what only this command knows."""
        RunConfig.__post_init__(self)
        if not self.reward_funcs:
            raise ConfigError("reward_funcs", self.reward_funcs, "at least one function or reward model")


Run: TypeAlias = SFTRun | DPORun | ORPORun | CPORun | KTORun | BCORun | RewardRun | GRPORun


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingCommand:
    """A command that trains.

    Attributes:
        config: what it is told.
        trainer: the trainer's name in `easydel_trainers`.
    """

    config: type[Run]
    trainer: str

    @property
    def trainer_class(self) -> Any:
        """The trainer, with all that it needs imported."""
        import easydel_trainers

        return getattr(easydel_trainers, self.trainer)


TRAINING_COMMANDS = {
    "sft": TrainingCommand(config=SFTRun, trainer="SFTTrainer"),
    "dpo": TrainingCommand(config=DPORun, trainer="DPOTrainer"),
    "orpo": TrainingCommand(config=ORPORun, trainer="ORPOTrainer"),
    "cpo": TrainingCommand(config=CPORun, trainer="CPOTrainer"),
    "kto": TrainingCommand(config=KTORun, trainer="KTOTrainer"),
    "bco": TrainingCommand(config=BCORun, trainer="BCOTrainer"),
    "grpo": TrainingCommand(config=GRPORun, trainer="GRPOTrainer"),
    "reward": TrainingCommand(config=RewardRun, trainer="RewardTrainer"),
}


def with_save_directory(config: Run) -> Run:
    """Returns the config with a folder to save to, if none was named."""
    if config.training.save_directory is not None:
        return config
    folder = str(Path("runs", config.trainer))
    return replace(config, training=replace(config.training, save_directory=folder))
