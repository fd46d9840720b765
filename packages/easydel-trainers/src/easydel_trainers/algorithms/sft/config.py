"""Options of supervised fine-tuning."""

from __future__ import annotations

from typing import Literal, final, get_args

from easydel_trainers.algorithms.sft.loss_names import SFTLossType
from easydel_trainers.config import TrainerConfig
from easydel_trainers.config_checks import require_choice
from easydel_trainers.errors import ConfigError
from easydel_trainers.trl.names import trainer_config

PackingName = Literal["bfd", "bfd_split", "wrapped"]
OverLongPolicy = Literal["truncate", "split", "drop", "error"]


@final
@trainer_config
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
    padding_side: Literal["right", "left"] = "right"
    """Where the empty positions of a bin are. `left` with `padding_free=False` only."""

    packing: bool = False
    """Fill rows of `max_length` tokens with several rows of the data, which never see each other. `total_batch_size`
    then counts packed rows."""
    packing_strategy: PackingName = "bfd"
    """Which rows share a pack: `bfd` (best fit decreasing; longer rows are cut), `bfd_split` (they go on in another
    pack) or `wrapped` (all rows end to end, cut wherever a pack is full). With `packing` only."""
    packing_over_long: OverLongPolicy | None = None
    """What happens to rows of more than `max_length` tokens: `truncate`, `split`, `drop` or `error`; all but the last
    are counted. `None` = as the strategy says. With `packing` only."""
    eval_packing: bool | None = None
    """Whether held-out rows are packed too. `None` = as `packing`. With `packing` only."""

    def __post_init__(self) -> None:
        """Checks the options of SFT after the shared ones."""
        TrainerConfig.__post_init__(self)
        require_choice("padding_side", self.padding_side, ("right", "left"))
        if self.padding_side == "left" and self.padding_free:
            raise ConfigError("padding_side", "left", "'right' where padding_free=True leaves almost nothing to pad")
        self._check_packing()
        require_choice("loss_type", self.loss_type, get_args(SFTLossType))
        if not 0 <= self.label_smoothing_factor < 1:
            raise ConfigError("label_smoothing_factor", self.label_smoothing_factor, "a number in [0, 1)")
        if self.label_smoothing_factor and self.loss_type != "nll":
            raise ConfigError(
                "label_smoothing_factor",
                self.label_smoothing_factor,
                "0 with loss_type='dft', which has no such form",
            )

    def _check_packing(self) -> None:
        require_choice("packing_strategy", self.packing_strategy, get_args(PackingName))
        require_choice("packing_over_long", self.packing_over_long, (None, *get_args(OverLongPolicy)))
        if not self.packing:
            for name, default in (("packing_strategy", "bfd"), ("packing_over_long", None), ("eval_packing", None)):
                if getattr(self, name) != default:
                    raise ConfigError(name, getattr(self, name), f"{default!r} without packing=True")
            return
        if self.max_length is None:
            raise ConfigError("max_length", None, "a number of tokens where packing=True: it is the length of a pack")
        if self.length_buckets is not None:
            raise ConfigError("length_buckets", self.length_buckets, "None where packing=True gives bins one length")
        if self.packing_strategy == "wrapped" and self.packing_over_long not in (None, "split"):
            raise ConfigError(
                "packing_over_long", self.packing_over_long, "None for 'wrapped', which cuts wherever a pack is full"
            )
