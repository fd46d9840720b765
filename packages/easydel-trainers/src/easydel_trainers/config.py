"""The configuration all trainers share.

A config only says what to do: it is frozen, checks itself once, reads no environment and builds nothing.
`total_batch_size` is the rows of one *optimizer step* over all devices, and `gradient_accumulation_steps`
splits it: 32 with 8 gives micro-batches of 4. (Hugging Face's `per_device_train_batch_size` counts the other
way round and multiplies.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from easydel_trainers.errors import ConfigError

OptimizerName = Literal["adamw", "lion", "sgd"]
SchedulerName = Literal["constant", "linear", "cosine"]
RematPolicy = Literal["none", "dots", "full"]
DTypeName = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainerConfig:
    """What every trainer needs to know; each algorithm adds its own fields.

    Raises:
        ConfigError: if a value is out of range or two values contradict each other; the message names the
            field, the value and what would be accepted.
    """

    learning_rate: float = 1e-6
    """Peak learning rate, reached after warm-up. > 0."""
    learning_rate_end: float = 0.0
    """Learning rate that a `linear` or `cosine` schedule ends at. Must be 0 for `constant`."""
    scheduler: SchedulerName = "linear"
    """Shape of the learning rate after warm-up: `constant`, `linear` or `cosine`."""
    warmup_steps: int = 0
    """Steps in which the learning rate rises linearly from 0. 0 = no warm-up."""

    optimizer: OptimizerName = "adamw"
    """Update rule: `adamw`, `lion` or `sgd` (plain, without momentum)."""
    weight_decay: float = 0.0
    """Decoupled weight decay, per learning rate. Norm weights and biases are never decayed."""
    adam_beta1: float = 0.9
    """Decay of the first moment (adamw, lion)."""
    adam_beta2: float = 0.999
    """Decay of the second moment (adamw), or of the momentum (lion)."""
    adam_epsilon: float = 1e-8
    """Added to the root of the second moment (adamw)."""
    clip_grad: float | None = 1.0
    """Largest global gradient norm; larger gradients are scaled down to it. `None` = no clipping."""

    num_train_epochs: float = 1
    """Passes over the training rows. May be a fraction. Ignored where `max_training_steps` is given."""
    max_training_steps: int | None = None
    """Optimizer steps to take, over as many epochs as that needs. Required for rows of unknown number."""
    total_batch_size: int = 8
    """Rows of one optimizer step, over all devices and micro-batches."""
    gradient_accumulation_steps: int = 1
    """Micro-batches that one step is split into; must divide `total_batch_size`. Saves memory only."""
    max_length: int | None = 1024
    """Longest row in tokens; longer ones are cut and counted. `None` = never cut."""
    length_buckets: Sequence[int] | None = None
    """Lengths that lines of a batch may have, ascending, one compilation each; beyond the last, its multiples.
    `None` = four lengths an octave from 64."""

    dtype: DTypeName | None = None
    """Compute type. `None` = float32 on CPU, bfloat16 on accelerators."""
    param_dtype: DTypeName = "float32"
    """Type in which parameters and optimizer state are held."""
    gradient_checkpointing: RematPolicy = "full"
    """What the backward pass recomputes: `none`, `dots` (all but matrix products) or `full` (whole layers)."""

    seed: int = 0
    """Seed of everything random that has no seed of its own."""
    shuffle_train_dataset: bool = True
    """Whether each epoch reads the rows in a new pseudo-random order."""
    shuffle_seed_train: int | None = None
    """Seed of that order. `None` = `seed`."""

    eval_batch_size: int = 8
    """Rows of one evaluation batch."""
    evaluation_steps: int | None = None
    """Evaluate every so many steps, and at the end. `None` = only when `evaluate()` is called."""

    save_directory: str | None = None
    """Folder of checkpoints, the log and the summary. `None` = nothing is written."""
    save_steps: int | None = None
    """Checkpoint every so many steps, and at the end. `None` = only at the end."""
    save_total_limit: int | None = 2
    """Checkpoints kept, newest first. `None` = all."""
    resume: Literal["auto", "never"] = "auto"
    """`auto` continues from the newest whole checkpoint of `save_directory`; `never` refuses to overwrite one."""

    log_steps: int = 10
    """Log every so many steps (and the first and last one)."""
    progress_bar: bool | None = None
    """Show a progress bar. `None` = only on a terminal."""

    def __post_init__(self) -> None:
        """Check ranges and combinations."""
        self._check_choices()
        self._check_ranges()
        if self.total_batch_size % self.gradient_accumulation_steps:
            raise ConfigError(
                "gradient_accumulation_steps",
                self.gradient_accumulation_steps,
                f"a divisor of total_batch_size ({self.total_batch_size}): one step of total_batch_size rows "
                "is split into that many equal micro-batches",
            )
        if self.scheduler == "constant" and self.learning_rate_end:
            raise ConfigError(
                "learning_rate_end",
                self.learning_rate_end,
                "0 for a constant schedule, which never ends lower",
            )
        if self.save_steps is not None and self.save_directory is None:
            raise ConfigError("save_steps", self.save_steps, "None without a save_directory to save in")
        if self.length_buckets is not None:
            object.__setattr__(self, "length_buckets", _checked_buckets(self.length_buckets))

    def _check_choices(self) -> None:
        _require_choice("optimizer", self.optimizer, ("adamw", "lion", "sgd"))
        _require_choice("scheduler", self.scheduler, ("constant", "linear", "cosine"))
        _require_choice("gradient_checkpointing", self.gradient_checkpointing, ("none", "dots", "full"))
        _require_choice("dtype", self.dtype, (None, "float32", "bfloat16"))
        _require_choice("param_dtype", self.param_dtype, ("float32", "bfloat16"))
        _require_choice("resume", self.resume, ("auto", "never"))

    def _check_ranges(self) -> None:
        for name in ("learning_rate", "num_train_epochs", "adam_epsilon", "clip_grad"):
            _require_positive(name, getattr(self, name))
        for name in _WHOLE_POSITIVE:
            _require_whole(name, getattr(self, name), least=1)
        _require_whole("warmup_steps", self.warmup_steps, least=0)
        _require_whole("seed", self.seed, least=0)
        _require_whole("shuffle_seed_train", self.shuffle_seed_train, least=0)
        for name in ("weight_decay", "learning_rate_end"):
            if getattr(self, name) < 0:
                raise ConfigError(name, getattr(self, name), "a number that is 0 or larger")
        for name in ("adam_beta1", "adam_beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(name, getattr(self, name), "a number in [0, 1)")


_WHOLE_POSITIVE = (
    "max_training_steps",
    "total_batch_size",
    "gradient_accumulation_steps",
    "max_length",
    "eval_batch_size",
    "evaluation_steps",
    "save_steps",
    "save_total_limit",
    "log_steps",
)

#: Fields that choose where and how often something is written or shown, and so may differ on resume.
FREE_ON_RESUME = frozenset(
    {
        "save_directory",
        "save_steps",
        "save_total_limit",
        "resume",
        "log_steps",
        "progress_bar",
        "eval_batch_size",
        "evaluation_steps",
    }
)


def numeric_identity(config: TrainerConfig) -> dict[str, Any]:
    """The fields of `config` that a run's numbers depend on, as plain JSON values."""
    names = [field.name for field in fields(config) if field.name not in FREE_ON_RESUME]
    return {name: _plain(getattr(config, name)) for name in names}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _require_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    if value not in choices:
        raise ConfigError(name, value, "one of " + ", ".join(repr(choice) for choice in choices))


def _require_positive(name: str, value: float | None) -> None:
    if value is not None and not value > 0:
        raise ConfigError(name, value, "a number larger than 0")


def _require_whole(name: str, value: int | None, *, least: int) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
        raise ConfigError(name, value, f"a whole number of at least {least}")


def _checked_buckets(buckets: Sequence[int]) -> tuple[int, ...]:
    ladder = tuple(buckets)
    if not ladder or any(not isinstance(b, int) or b < 1 for b in ladder) or list(ladder) != sorted(set(ladder)):
        raise ConfigError("length_buckets", buckets, "ascending whole numbers, for example [128, 256, 512]")
    return ladder
