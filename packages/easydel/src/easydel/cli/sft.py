"""`easydel sft`: supervised fine-tuning from one config, with proof that the model learned."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from easydel_trainers.algorithms.sft.config import SFTConfig
from easydel_trainers.errors import ConfigError
from tyro.conf import Suppress

from easydel.cli.run_config import RunConfig


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
        """Check what only this command knows."""
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
