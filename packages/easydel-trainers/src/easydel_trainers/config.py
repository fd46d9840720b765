"""The configuration all trainers share.

A config only says what to do: it is frozen, checks itself once, reads no environment and builds nothing.
`total_batch_size` is the rows of one *optimizer step* over all devices, and `gradient_accumulation_steps`
splits it: 32 with 8 gives micro-batches of 4. (Hugging Face's `per_device_train_batch_size` counts the other
way round and multiplies.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field, fields, is_dataclass
from typing import Any, ClassVar, Literal, get_args

from easydata_sources.bad_rows.policy import Policy
from easydel_models.adapters.config import LoraConfig

from easydel_trainers.config_checks import (
    checked_buckets,
    checked_texts,
    checked_thresholds,
    checked_window,
    require_choice,
    require_pattern,
    require_positive,
    require_whole,
)
from easydel_trainers.errors import ConfigError
from easydel_trainers.metric_names import is_greater_better
from easydel_trainers.trl.names import trainer_config

OptimizerName = Literal["adamw", "lion", "adafactor", "muon", "sgd", "schedule_free"]
SchedulerName = Literal["constant", "linear", "cosine", "wsd"]
TrackerName = Literal["tensorboard", "wandb", "trackio"]
RematPolicy = Literal["none", "dots", "full"]
DTypeName = Literal["float32", "bfloat16"]
AttentionName = Literal["auto", "reference", "blocked", "xla", "cudnn", "splash"]


#: Fields that choose where and how often something is written or shown, and so may differ on resume.
_FREE_ON_RESUME = frozenset(
    {
        "save_directory",
        "save_steps",
        "save_minutes",
        "save_epochs",
        "save_total_limit",
        "resume",
        "log_steps",
        "progress_bar",
        "eval_batch_size",
        "evaluation_steps",
        "metric_for_best_model",
        "greater_is_better",
        "load_best_model_at_end",
        "preview_prompts",
        "preview_steps",
        "preview_max_new_tokens",
        "on_save_error",
        *("data_thresholds", "drop_unrendered"),  # what is counted, and when that ends the run
        "report_to",
        "run_name",
        "profile_steps",
        "loss_spike_factor",
        *("dp", "fsdp", "ep", "tp", "sp"),  # a checkpoint is laid over whatever devices there are
        "skip_batches",  # what was trained stays trained; what is ahead may be skipped
    }
)


@trainer_config
class TrainerConfig:
    """What every trainer needs to know; each algorithm adds its own fields.

    Raises:
        ConfigError: if a value is out of range or two values contradict each other; the message names the
            field, the value and what would be accepted.
    """

    free_on_resume: ClassVar[frozenset[str]] = _FREE_ON_RESUME
    """Fields that a run may be given other values of when it goes on from a checkpoint."""

    learning_rate: float = 1e-6
    """Peak learning rate, reached after warm-up. > 0."""
    learning_rate_end: float = 0.0
    """Learning rate that a `linear`, `cosine` or `wsd` schedule ends at. Must be 0 for `constant`."""
    scheduler: SchedulerName = "linear"
    """Shape of the learning rate after warm-up: `constant`, `linear`, `cosine` or `wsd` (stable, then linear decay)."""
    warmup_steps: int = 0
    """Steps in which the learning rate rises linearly from 0. 0 = no warm-up."""
    decay_steps: int | None = None
    """Last steps of a run, in which a `wsd` schedule decays. `None` = a tenth of the run. `wsd` only."""

    optimizer: OptimizerName = "adamw"
    """Update rule: `adamw`, `lion`, `adafactor`, `muon` (kernels; adamw for the rest), `sgd` (plain, without
    momentum) or `schedule_free` (adamw; wants scheduler='constant')."""
    weight_decay: float = 0.0
    """Decoupled weight decay, per learning rate. Norm weights and biases are never decayed."""
    adam_beta1: float = 0.9
    """Decay of the first moment (adamw, lion, muon's adamw), or the weight of the average (schedule_free)."""
    adam_beta2: float = 0.999
    """Decay of the second moment (adamw, muon's adamw, schedule_free), or of the momentum (lion)."""
    adam_epsilon: float = 1e-8
    """Added to the root of the second moment (adamw, muon's adamw, schedule_free)."""
    clip_grad: float | None = 1.0
    """Largest global gradient norm; larger gradients are scaled down to it. `None` = no clipping."""
    ema_decay: float | None = None
    """Keep a moving average of the parameters with this decay, in (0, 1), evaluate it, and leave it in the model when
    training ends. `None` = the parameters themselves."""
    frozen_parameters: Sequence[str] = ()
    """Regular expressions; a parameter whose dotted path, such as `layers.query`, contains a match is not trained."""

    num_train_epochs: float = 1
    """Passes over the training rows. May be a fraction. Ignored where `max_training_steps` is given."""
    max_training_steps: int | None = None
    """Optimizer steps to take, over as many epochs as that needs. Required for rows of unknown number."""
    total_batch_size: int = 8
    """Rows of one optimizer step, over all devices and micro-batches."""
    gradient_accumulation_steps: int = 1
    """Micro-batches that one step is split into; must divide `total_batch_size`. Saves memory only."""
    max_tokens_per_micro_batch: int | None = None
    """Split a step into as many micro-batches as it needs for each to hold at most so many positions, however long its
    rows are. `None` = `gradient_accumulation_steps` of them. Saves memory only."""
    max_length: int | None = 1024
    """Longest row in tokens; longer ones are cut and counted. `None` = never cut."""
    length_buckets: Sequence[int] | None = None
    """Lengths that bins of a batch may have, ascending, one compilation each; beyond the last, its multiples.
    `None` = four lengths an octave from 64."""

    pad_to_multiple_of: int | None = None
    """Make the lengths of bins a multiple of this, which some kernels are faster with. `None` = as they come."""
    dp: int = 1
    """Devices that each hold all parameters and share the rows of a step. -1 = as many as the other axes leave."""
    fsdp: int = -1
    """Devices that share both the parameters (with optimizer state) and the rows. -1 = as many as the others leave."""
    ep: int = 1
    """Devices that share the experts of each layer and the rows; must divide their number. -1 as above."""
    tp: int = 1
    """Devices that share attention heads, MLP and vocabulary; must divide their numbers. -1 as above."""
    sp: int = 1
    """Devices that share the tokens of each row; must divide every length of a batch. -1 as above."""

    dtype: DTypeName | None = None
    """Compute type. `None` = float32 on CPU, bfloat16 on accelerators. On a CPU without instructions for bfloat16
    that is computed in float32, which is faster there."""
    param_dtype: DTypeName = "float32"
    """Type in which parameters are held. Moments and averages are float32 always: adamw takes 2 + 8 bytes a parameter
    with bfloat16 and 4 + 8 with float32, `ema_decay` 4 more, and schedule_free with bfloat16 4 for what it averages."""
    lora: LoraConfig | None = None
    """Train low-rank adapters beside the linear layers, and nothing else. `None` = train the model itself."""
    gradient_checkpointing: RematPolicy = "full"
    """What the backward pass recomputes: `none`, `dots` (all but matrix products) or `full` (whole layers)."""
    attention: AttentionName = "auto"
    """Implementation of attention in training: `auto` and `blocked` run anywhere; `cudnn` needs an NVIDIA GPU and
    bfloat16, `splash` a TPU. One that cannot do what the model or the batch asks of it is an error."""
    router_aux_loss_coef: float | None = None
    """Factor, 0 or more, on the loss by which routers learn to spread tokens over experts, which several micro-batches
    cost a further forward pass. `None` = the checkpoint's, where it asks for it with `output_router_logits`, else 0."""
    neftune_alpha: float | None = None
    """Size of the uniform noise that training adds to embeddings (NEFTune); 5 is usual. `None` = no noise."""

    seed: int = 0
    """Seed of everything random that has no seed of its own."""
    shuffle_train_dataset: bool = True
    """Whether each epoch reads the rows in a new pseudo-random order."""
    shuffle_seed_train: int | None = None
    """Seed of that order. `None` = `seed`."""

    bad_rows: Policy = "raise"
    """Rows that cannot be read or transformed: `raise` an error, `skip` them, or `quarantine` them: skip, and write
    them to `bad_rows.jsonl` in `save_directory`."""
    bad_rows_budget: int | float = 0.01
    """Bad rows above which the run ends all the same: a share (float) or a number (int) of the rows read."""
    data_thresholds: Mapping[str, float] = field(default_factory=dict, hash=False)
    """Largest share of the rows, 0 to 1, that each reason of the data report may have before the run ends, such as
    `{"not_rendered/tool_call": 0.0}` (`not_rendered`: every kind of it). Others keep their defaults; 1 = never."""
    drop_unrendered: Sequence[str] = ()
    """Kinds of what a row has and the chat template does not print (`reasoning`, `system`, `tools`, …) that nobody
    misses: they are not counted as `not_rendered/KIND`."""

    allow_other_tokenizer: bool = False
    """Whether saved sets may be trained on that another tokenizer made than the trainer's: you know that their tokens
    mean the same. Else they are refused."""

    skip_batches: Sequence[int] = ()
    """Numbers of batches, from 1, whose rows are read but not trained: those that a divergence named, say."""
    loss_spike_factor: float | None = None
    """Report steps, with their rows, whose loss is more than so many times the median of the 32 before. `None` = no
    watch; a loss that is not finite always ends the run."""

    eval_batch_size: int = 8
    """Rows of one evaluation batch."""
    evaluation_steps: int | None = None
    """Evaluate every so many steps, and at the end. `None` = only when `evaluate()` is called."""
    metric_for_best_model: str | None = None
    """Metric of the evaluations, such as `eval_loss` (or `loss`), by which the best step is known, whose checkpoint is
    kept."""
    greater_is_better: bool | None = None
    """Whether a larger `metric_for_best_model` is better. `None` = unless its name ends in `loss`."""
    load_best_model_at_end: bool = False
    """Leave the parameters of the best evaluation, not of the last step, in the model when training ends."""
    preview_prompts: Sequence[str] = ()
    """Texts that the model answers as it is trained, greedily; written to `previews.jsonl` and the trackers."""
    preview_steps: int | None = None
    """Answer `preview_prompts` every so many steps, and at the end. Required with them."""
    preview_max_new_tokens: int = 64
    """Longest answer to a preview prompt, in tokens."""

    save_directory: str | None = None
    """Folder of checkpoints, the log and the summary. `None` = nothing is written."""
    save_steps: int | None = None
    """Checkpoint every so many steps. `None` = not by steps."""
    save_minutes: float | None = 10.0
    """Checkpoint so long after the one before. `None` = not by time."""
    save_epochs: bool = True
    """Checkpoint at the end of every epoch. Whatever these three say, there is one at the end of the run."""
    save_total_limit: int | None = 2
    """Checkpoints kept, newest first. `None` = all."""
    on_save_error: Literal["stop", "continue"] = "stop"
    """When a checkpoint or log cannot be written: `stop` the run, or `continue` without and count it."""
    resume: Literal["auto", "never", "force"] = "auto"
    """`auto` continues from the newest whole checkpoint of `save_directory`, if it is of the same weights, rows,
    tokenizer, config and versions; `force` does so even if not; `never` refuses to touch a folder that holds one."""

    log_steps: int = 10
    """Log every so many steps (and the first and last one)."""
    progress_bar: bool | None = None
    """Show a progress bar. `None` = only on a terminal."""
    report_to: Sequence[TrackerName] = ()
    """Trackers that records go to beside `log.jsonl`: `tensorboard`, `wandb`, `trackio`; each an extra to install."""
    run_name: str | None = None
    """Name of the run in trackers. `None` = the last part of `save_directory`."""
    profile_steps: tuple[int, int] | None = None
    """First and last step to record with JAX's profiler into `profile/` of `save_directory`. `None` = no recording."""

    def __post_init__(self) -> None:
        """Checks ranges and combinations."""
        self._refuse_numbers_as_text()
        self._check_choices()
        self._check_ranges()
        self._check_sequences()
        self._check_update_fields()
        self._check_dependent_fields()
        if self.total_batch_size % self.gradient_accumulation_steps:
            raise ConfigError(
                "gradient_accumulation_steps",
                self.gradient_accumulation_steps,
                f"a divisor of total_batch_size ({self.total_batch_size}): one step of total_batch_size rows "
                "is split into that many equal micro-batches",
            )

    def _refuse_numbers_as_text(self) -> None:
        for item in fields(self):
            value, kinds = getattr(self, item.name), {kind.strip() for kind in str(item.type).split("|")}
            if isinstance(value, str) and kinds <= {"int", "float", "None"}:
                raise ConfigError(item.name, value, "a number; YAML takes 1e-4 for text and 1.0e-4 for a number")

    def _check_choices(self) -> None:
        for name, kind in (("optimizer", OptimizerName), ("scheduler", SchedulerName)):
            require_choice(name, getattr(self, name), get_args(kind))
        require_choice("gradient_checkpointing", self.gradient_checkpointing, get_args(RematPolicy))
        require_choice("dtype", self.dtype, (None, *get_args(DTypeName)))
        require_choice("attention", self.attention, get_args(AttentionName))
        require_choice("param_dtype", self.param_dtype, get_args(DTypeName))
        require_choice("resume", self.resume, ("auto", "never", "force"))
        require_choice("bad_rows", self.bad_rows, get_args(Policy))
        require_choice("on_save_error", self.on_save_error, ("stop", "continue"))
        for name in self.report_to:
            require_choice("report_to", name, get_args(TrackerName))

    def _check_ranges(self) -> None:
        positive = ("learning_rate", "num_train_epochs", "adam_epsilon", "clip_grad", "neftune_alpha", "save_minutes")
        for name in positive:
            require_positive(name, getattr(self, name))
        for name in _WHOLE_POSITIVE:
            require_whole(name, getattr(self, name), least=1)
        for name in ("dp", "fsdp", "ep", "tp", "sp"):
            if getattr(self, name) != -1:
                require_whole(name, getattr(self, name), least=1)
        for name in ("warmup_steps", "seed", "shuffle_seed_train"):
            require_whole(name, getattr(self, name), least=0)
        for name in ("weight_decay", "learning_rate_end", "router_aux_loss_coef"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ConfigError(name, value, "a number that is 0 or larger")
        budget = self.bad_rows_budget
        if isinstance(budget, bool) or budget < 0 or (isinstance(budget, float) and budget > 1):
            raise ConfigError("bad_rows_budget", budget, "a share from 0.0 to 1.0, or a whole number of rows")
        for name in ("adam_beta1", "adam_beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(name, getattr(self, name), "a number in [0, 1)")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ConfigError("ema_decay", self.ema_decay, "a number between 0 and 1, for example 0.999")
        if self.loss_spike_factor is not None and not self.loss_spike_factor > 1:
            raise ConfigError("loss_spike_factor", self.loss_spike_factor, "a number larger than 1, for example 3")

    def _check_sequences(self) -> None:
        if self.length_buckets is not None:
            object.__setattr__(self, "length_buckets", checked_buckets(self.length_buckets))
        for name in ("frozen_parameters", "preview_prompts", "report_to", "drop_unrendered"):
            object.__setattr__(self, name, checked_texts(name, getattr(self, name)))
        for pattern in self.frozen_parameters:
            require_pattern("frozen_parameters", pattern)
        for number in self.skip_batches:
            require_whole("skip_batches", number, least=1)
        object.__setattr__(self, "skip_batches", tuple(self.skip_batches))
        object.__setattr__(self, "data_thresholds", checked_thresholds("data_thresholds", self.data_thresholds))
        if self.profile_steps is not None:
            object.__setattr__(self, "profile_steps", checked_window(self.profile_steps))

    def _check_update_fields(self) -> None:
        if self.scheduler == "constant" and self.learning_rate_end:
            raise ConfigError(
                "learning_rate_end", self.learning_rate_end, "0 for a constant schedule, which never ends lower"
            )
        if self.scheduler != "wsd" and self.decay_steps is not None:
            raise ConfigError("decay_steps", self.decay_steps, "None, or scheduler='wsd', which alone has such steps")
        if self.optimizer == "schedule_free" and self.adam_beta1 == 0:
            raise ConfigError("adam_beta1", 0, "more than 0 for schedule_free, whose average it weighs; 0.9 is usual")
        if self.optimizer == "schedule_free" and self.scheduler != "constant":
            raise ConfigError("scheduler", self.scheduler, "'constant' for schedule_free, which averages instead")
        if self.ema_decay is not None and self.optimizer == "schedule_free":
            raise ConfigError("ema_decay", self.ema_decay, "None for schedule_free, which is an average already")
        if self.max_tokens_per_micro_batch is not None and self.gradient_accumulation_steps > 1:
            raise ConfigError(
                "max_tokens_per_micro_batch",
                self.max_tokens_per_micro_batch,
                "None where gradient_accumulation_steps says how many micro-batches there are",
            )

    def _check_dependent_fields(self) -> None:
        """Fields that mean nothing without another."""
        if self.save_directory is None:
            for name in _FOR_A_FOLDER:
                if getattr(self, name):
                    raise ConfigError(name, getattr(self, name), "None without a save_directory to write to")
        if self.bad_rows == "quarantine" and self.save_directory is None:
            raise ConfigError("bad_rows", self.bad_rows, "skip without a save_directory to write them to")
        if self.metric_for_best_model is None:
            for name, unset in (("load_best_model_at_end", False), ("greater_is_better", None)):
                if getattr(self, name) not in (unset, False):
                    raise ConfigError(name, True, f"{unset} without a metric_for_best_model to tell which is better")
        elif self.evaluation_steps is None:
            raise ConfigError("metric_for_best_model", self.metric_for_best_model, "None without evaluation_steps")
        elif self.greater_is_better is None:
            object.__setattr__(self, "greater_is_better", is_greater_better(self.metric_for_best_model))
        if bool(self.preview_prompts) != (self.preview_steps is not None):
            raise ConfigError("preview_steps", self.preview_steps, "given together with preview_prompts")


_FOR_A_FOLDER = ("save_steps", "metric_for_best_model", "profile_steps")

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
    "decay_steps",
    "max_tokens_per_micro_batch",
    "preview_steps",
    "preview_max_new_tokens",
    "pad_to_multiple_of",
)


def numeric_identity(config: TrainerConfig) -> dict[str, Any]:
    """Returns the fields of `config` that a run's numbers depend on, as plain JSON values."""
    names = [item.name for item in fields(config) if item.name not in config.free_on_resume]
    return {name: _plain(getattr(config, name)) for name in names}


def shown_fields(config: TrainerConfig) -> dict[str, Any]:
    """Returns all fields of `config` as plain JSON values, for people to read."""
    return {item.name: _plain(getattr(config, item.name)) for item in fields(config)}


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(part) for name, part in asdict(value).items()}
    return list(value) if isinstance(value, tuple) else value
