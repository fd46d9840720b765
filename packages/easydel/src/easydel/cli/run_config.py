"""What every training command is told, whatever it trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from easydel_trainers.errors import ConfigError

from easydel.cli.held_out import HeldOut
from easydel.cli.mixture import Rows


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """Abstract: each command adds its name as `trainer`, and its options as `training`."""

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
        """Check what only the command line knows."""
        if self.eval_dataset == {}:
            raise ConfigError("eval_dataset", self.eval_dataset, "None, one name of rows, or several by names")
        if self.eval_rows is None:
            return
        if self.eval_rows < 1:
            raise ConfigError("eval_rows", self.eval_rows, "a whole number of at least 1")
        if self.eval_dataset is None:
            raise ConfigError("eval_rows", self.eval_rows, "an `eval_dataset` beside it, whose rows it counts")

    def trainer_options(self) -> dict[str, Any]:
        """What the trainer is given beside model, rows and options."""
        return {}
