"""Options of supervised fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from easydel_trainers.config import TrainerConfig
from easydel_trainers.errors import ConfigError

SFTLossType = Literal["nll", "dft"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SFTConfig(TrainerConfig):
    """Supervised fine-tuning on text, conversations or prompt/completion rows."""

    learning_rate: float = 2e-5
    """Peak learning rate, reached after warm-up. > 0."""

    loss_type: SFTLossType = "nll"
    """`nll`: negative log-likelihood. `dft`: the same, each token weighted by its own (fixed) probability."""
    label_smoothing_factor: float = 0.0
    """Share of the target spread evenly over the vocabulary, in [0, 1). `nll` only."""

    completion_only_loss: bool | None = None
    """Train on completions only. `None` = yes for prompt/completion rows, no for text and messages."""
    assistant_only_loss: bool = False
    """Train on the assistant's turns only (text and stop token)."""
    dataset_text_field: str | None = None
    """Column to read as plain text. `None` = detect the layout of each row; `text` if it has no other."""

    padding_free: bool = True
    """Lay the rows of a batch end to end instead of padding each: same loss and gradients, less work."""

    def __post_init__(self) -> None:
        """Check the options of SFT after the shared ones."""
        TrainerConfig.__post_init__(self)
        if self.loss_type not in ("nll", "dft"):
            raise ConfigError("loss_type", self.loss_type, "one of 'nll', 'dft'")
        if not 0 <= self.label_smoothing_factor < 1:
            raise ConfigError("label_smoothing_factor", self.label_smoothing_factor, "a number in [0, 1)")
        if self.label_smoothing_factor and self.loss_type != "nll":
            raise ConfigError(
                "label_smoothing_factor",
                self.label_smoothing_factor,
                "0 with loss_type='dft', which has no such form",
            )
