"""`easydel sft`: supervised fine-tuning from one config, with proof that the model learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from easydel_trainers.algorithms.sft.config import SFTConfig
from easydel_trainers.errors import ConfigError

from easydel.cli.errors import EXIT_OK
from easydel.cli.invocation import parse_invocation
from easydel.cli.printed import config_as_yaml


@dataclass(frozen=True, kw_only=True, slots=True)
class SFTRun:
    """Fine-tune a model on text, conversations or prompts with completions.

    Reads a YAML file, flags, or both; a flag wins over `--set`, and `--set` over the file. The model folder,
    the checkpoints and the log go into `training.save_directory` (runs/sft if none is named). Run the same
    command again to go on from the last checkpoint.
    """

    model: str
    """Model to train: a folder, a Hub id, a .gguf file, or package://PACKAGE/FILE in an installed package."""
    tokenizer: str | None = None
    """Folder, Hub id or .gguf file of the tokenizer. `None` = the model's own."""

    train_dataset: str
    """Rows to train on: a path, glob or URL of files, hub://OWNER/NAME:SPLIT, or demo://python-docs/train."""
    eval_dataset: str | None = None
    """Held-out rows, named the same way; their loss is measured before and after. `None` = no measurement."""
    eval_rows: int | None = None
    """Measure on this many of the held-out rows, from the first. `None` = all."""

    preview_rows: int = 0
    """Show the model's answers to the questions of this many held-out rows, before and after. 0 = none."""
    preview_questions: tuple[str, ...] = ()
    """Further questions to show answers to."""
    preview_max_tokens: int = 64
    """Longest answer shown, in tokens."""

    require_nll_drop: float | None = None
    """Share by which the held-out loss must fall, else the exit code is 1: 0.1 = 10 %. `None` = no demand."""

    training: SFTConfig = field(default_factory=SFTConfig)
    """Options of the trainer."""

    def __post_init__(self) -> None:
        """Check what only this command knows."""
        if self.eval_dataset is None:
            for name, value in (("preview_rows", self.preview_rows), ("eval_rows", self.eval_rows)):
                if value:
                    raise ConfigError(name, value, "an `eval_dataset` beside it, whose rows it counts")
            if self.require_nll_drop is not None:
                raise ConfigError("require_nll_drop", self.require_nll_drop, "an `eval_dataset` to measure it on")
        for name, value, least in (
            ("eval_rows", self.eval_rows, 1),
            ("preview_rows", self.preview_rows, 0),
            ("preview_max_tokens", self.preview_max_tokens, 1),
        ):
            if value is not None and value < least:
                raise ConfigError(name, value, f"a whole number of at least {least}")
        if self.require_nll_drop is not None and not 0 < self.require_nll_drop < 1:
            raise ConfigError("require_nll_drop", self.require_nll_drop, "a share between 0 and 1, for example 0.1")


def run(arguments: Sequence[str], command: str) -> int:
    """Carry out one `easydel sft` command line; returns the exit code."""
    invocation = parse_invocation(SFTRun, arguments, command=f"easydel {command}")
    config = invocation.run
    if config.training.save_directory is None:
        config = replace(config, training=replace(config.training, save_directory=str(Path("runs", "sft"))))
    if invocation.print_config:
        print(config_as_yaml(config), end="")
        return EXIT_OK

    from easydel.cli.sft_run import fine_tune

    fine_tune(config)
    return EXIT_OK
