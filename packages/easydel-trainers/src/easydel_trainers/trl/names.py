"""Names that users of TRL and of Hugging Face's TrainingArguments bring along.

A name that means exactly what one of ours means is accepted and translated, with a line in the log that gives the
native name. A name that does not is refused with the reason, rather than accepted and ignored.

The one trap is `gradient_accumulation_steps`: theirs multiplies `per_device_train_batch_size`, ours splits
`total_batch_size`. Given together with `per_device_train_batch_size` it has their meaning, alone it has ours.
"""

from __future__ import annotations

import difflib
import functools
import logging
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, dataclass_transform

from easydel_trainers.errors import ConfigError

_LOG = logging.getLogger(__name__)

Values = dict[str, Any]
Config = TypeVar("Config")

#: names that are other words for the same thing
_RENAMED = {
    "output_dir": "save_directory",
    "max_steps": "max_training_steps",
    "max_grad_norm": "clip_grad",
    "logging_steps": "log_steps",
    "eval_steps": "evaluation_steps",
    "per_device_eval_batch_size": "eval_batch_size",
    "data_seed": "shuffle_seed_train",
    "num_generations": "num_return_sequences",
    "vllm_importance_sampling_correction": "importance_sampling_correction",
    "vllm_importance_sampling_mode": "importance_sampling_mode",
    "vllm_importance_sampling_clip_max": "importance_sampling_clip_max",
    "vllm_importance_sampling_clip_min": "importance_sampling_clip_min",
    "neftune_noise_alpha": "neftune_alpha",
    "lr_scheduler_type": "scheduler",
    "optim": "optimizer",
    "bf16": "dtype",
    "disable_tqdm": "progress_bar",
    "shuffle_dataset": "shuffle_train_dataset",
    "vllm_importance_sampling_cap": "importance_sampling_clip_max",
    "train_sampling_strategy": "shuffle_train_dataset",
}

_OPTIMIZERS = {
    "adamw_torch": "adamw",
    "adamw_torch_fused": "adamw",
    "adamw_hf": "adamw",
    "lion_32bit": "lion",
    "schedule_free_adamw": "schedule_free",
}
_SCHEDULERS = {"constant_with_warmup": "constant", "warmup_stable_decay": "wsd"}
_SHUFFLES = {"random": True, "sequential": False}
_REMAT = {True: "full", False: "none"}

#: names whose values are written in another way
_VALUES: Mapping[str, Callable[[Any], Any]] = {
    "max_steps": lambda value: None if value == -1 else value,
    "max_grad_norm": lambda value: None if value == 0 else value,
    "optim": lambda value: _OPTIMIZERS.get(value, value),
    "lr_scheduler_type": lambda value: _SCHEDULERS.get(str(value), str(value)),
    "bf16": lambda value: "bfloat16" if value else "float32",
    "disable_tqdm": lambda value: not value,
    "train_sampling_strategy": lambda value: _SHUFFLES.get(value, value),
    "report_to": lambda value: () if value in ("none", ["none"]) else (value,) if isinstance(value, str) else value,
    "gradient_checkpointing": lambda value: _REMAT.get(value, value) if isinstance(value, bool) else value,
}

#: names that nothing of ours means exactly, and why
_REFUSED = {
    "warmup_ratio": "give `warmup_steps`, or `max_steps` beside it: a share of a run of unknown length is no number",
    "fp16": "use dtype='bfloat16', which needs no loss scaling",
    "tf32": "set JAX's own jax_default_matmul_precision",
    "eval_strategy": "give `evaluation_steps`, or leave it out for no evaluation",
    "save_strategy": "give `save_steps`, `save_minutes`, `save_epochs`; there is a checkpoint at the end in any case",
    "logging_strategy": "give `log_steps`",
    "dataset_num_proc": "rows are tokenized as they are read; `easydel tokenize` prepares a set with many processes",
    "dataset_batch_size": "rows are tokenized in batches of a fixed size",
    "remove_unused_columns": "columns that no one asked for are ignored",
    "dataloader_num_workers": "one thread prepares the next steps, and the log says how long it is waited for",
    "dataloader_drop_last": "no row is dropped: a step reaches over the end of an epoch",
    "group_by_length": "rows keep their order; padding-free batches leave almost no position empty",
    "use_liger_kernel": "the loss is always computed without building the logits",
    "deepspeed": "give mesh axes",
    "fsdp": "give mesh axes",
    "ddp_find_unused_parameters": "there is no such thing in JAX",
    "peft_config": "give `lora=LoraConfig(…)`",
    "push_to_hub": "save the model and upload the folder with `huggingface_hub.upload_folder`",
    "resume_from_checkpoint": "resume='auto' is the default: run the same script again",
    "use_vllm": "give an engine to the trainer",
    "steps_per_generation": "a rollout is the completions of one step; `num_iterations` steps are taken on it",
    "generation_batch_size": "`total_batch_size` completions are sampled for a step",
    "num_generations_eval": "held-out prompts are answered `num_return_sequences` times too",
    "dataset_kwargs": "the trainer finds out the layout of every row by itself",
    "model_init_kwargs": "load the model with `from_pretrained(…)` and hand it over",
    "eos_token": "set it on the tokenizer",
    "pad_token": "set it on the tokenizer",
    "chat_template_path": "set `tokenizer.chat_template`",
    "activation_checkpointing": "give `gradient_checkpointing`: 'none', 'dots' or 'full'",
    "activation_checkpointing_kwargs": "give `gradient_checkpointing`: 'none', 'dots' or 'full'",
    "activation_offloading": "give `gradient_checkpointing='full'`, which keeps little to offload",
    "gradient_checkpointing_kwargs": "give `gradient_checkpointing`: 'none', 'dots' or 'full'",
    "auto_find_batch_size": "give `max_tokens_per_micro_batch`, which bounds memory whatever the rows' lengths",
    "average_tokens_across_devices": "a loss is always a sum over the whole step divided by its whole count",
    "batch_eval_metrics": "metrics are sums and counts, never held row by row",
    "bf16_full_eval": "give `dtype`, which evaluation uses too",
    "fp16_full_eval": "give `dtype='bfloat16'`, which evaluation uses too",
    "debug": "a loss that is not finite always ends the run, and names its rows",
    "disable_dropout": "models have no dropout of their own; that of adapters is in `lora`",
    "do_eval": "call `evaluate()`, or give `evaluation_steps`",
    "do_predict": "call the model's `generate()`",
    "do_train": "call `train()`",
    "enable_jit_checkpoint": "a run that is told to end always saves first",
    "full_determinism": "every run is deterministic, given its `seed`",
    "generate_during_eval": "give `preview_prompts` and `preview_steps`",
    "ignore_data_skip": "a run goes on at its position without reading what it read before",
    "include_for_metrics": "give a callback with `on_evaluate`",
    "include_num_input_tokens_seen": "tokens are always counted and logged",
    "is_encoder_decoder": "models are decoders",
    "label_names": "batches are laid out by the trainer",
    "label_smoothing_factor": "give `label_smoothing` to the losses on preferences that have it",
    "length_column_name": "lengths are taken from the tokens",
    "liger_kernel_config": "the loss is always computed without building the logits",
    "local_rank": "processes find each other by `jax.distributed`",
    "lr_scheduler_kwargs": "give `learning_rate_end` and `decay_steps`",
    "neftune_noise_alpha": "only the SFT trainer has it",
    "optim_args": "give `adam_beta1`, `adam_beta2` and `adam_epsilon`",
    "optim_target_modules": "give `frozen_parameters`, the complement",
    "pad_to_multiple_of": "give `length_buckets`",
    "parallelism_config": "give mesh axes",
    "accelerator_config": "give mesh axes",
    "precompute_ref_batch_size": "rows are scored `total_batch_size` at a time",
    "prediction_loss_only": "metrics come with the loss and cost nothing more",
    "project": "set the tracker's own environment variable, such as WANDB_PROJECT",
    "restore_callback_states_from_checkpoint": "callbacks' states are always restored",
    "save_on_each_node": "a checkpoint is one folder that all processes share",
    "save_only_model": "call `save_pretrained`; a checkpoint must hold all that resuming needs",
    "skip_memory_metrics": "peak memory is read once, at the end",
    "truncation_mode": "rows lose their end; with budgets, prompts lose their beginning",
    "trust_remote_code": "no code from a model's repository is ever run",
    "use_cache": "training keeps no cache; `generate` always does",
    "use_cpu": "set the environment variable JAX_PLATFORMS=cpu",
    "cache_implementation": "the cache is as long as the longest prompt and answer of its block",
    "cast_lm_head_to_fp32": "logits are always computed in float32",
    "chat_template_kwargs": "give rows a column `chat_template_kwargs`",
    "ds3_gather_for_generation": "give mesh axes",
    "generation_kwargs": "give `temperature`, `top_k`, `top_p`, `min_p` and `repetition_penalty`",
    "max_tool_calling_iterations": "tools are not called while generating",
    "off_policy_mask_threshold": "rows are not masked by how far the policy has moved",
    "transformers_continuous_batching_config": "finished rows are always replaced while others go on",
    "use_adaptive_entropy": "there is no bonus for entropy; `entropy` is logged",
    "use_transformers_continuous_batching": "finished rows are always replaced while others go on",
    "use_transformers_paged": "the cache is not paged",
}
#: values of these that say how it is here anyway
_AS_IT_IS_HERE: Mapping[str, tuple[Any, ...]] = {
    "average_tokens_across_devices": (True,),
    "dataloader_drop_last": (False,),
    "dataloader_num_workers": (0,),
    "do_eval": (False,),
    "do_train": (True,),
    "fp16": (False,),
    "group_by_length": (False,),
    "push_to_hub": (False,),
    "remove_unused_columns": (False,),
    "save_only_model": (False,),
    "tf32": (None,),
    "trust_remote_code": (False,),
    "use_cpu": (False,),
    "use_vllm": (False,),
}
#: names whose value "steps" repeats what another one says, and that other one by TRL's name and ours
_STRATEGIES = {
    "eval_strategy": ("eval_steps", "evaluation_steps"),
    "save_strategy": ("save_steps",),
    "logging_strategy": ("logging_steps", "log_steps"),
}

#: the same for families of names, by how they begin
_REFUSED_FAMILIES = {
    "dataloader_": "one thread prepares the next steps, and the log says how long it is waited for",
    "ddp_": "there is no such thing in JAX",
    "entropy_": "there is no bonus for entropy; `entropy` is logged",
    "eval_": "give `evaluation_steps`; evaluation runs over whole data sets and keeps sums",
    "fsdp_": "give mesh axes",
    "hub_": "save the model and upload the folder with `huggingface_hub.upload_folder`",
    "log_": "set levels with Python's `logging`, logger `easydel_trainers`",
    "logging_": "give `log_steps`; the first and last step are always logged",
    "torch_": "there is no torch here, and XLA compiles every step",
    "trackio_": "set the tracker's own environment variables",
    "vespo_": "`loss_type` has no such loss",
    "vllm_": "give an engine to the trainer",
}


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def trainer_config(cls: type[Config]) -> type[Config]:
    """Makes a class a config: a frozen, keyword-only dataclass with slots, whose constructor takes TRL's names too."""
    made = dataclass(frozen=True, kw_only=True, slots=True)(cls)
    init: Callable[..., None] = made.__init__

    @functools.wraps(init)
    def translated(self: Config, **values: Any) -> None:
        init(self, **native_config_names(made, values))

    made.__init__ = translated
    return made


def native_config_names(config: type, values: Mapping[str, Any]) -> Values:
    """Translates the fields a config was called with.

    Args:
        config: dataclass of our own.
        values: by our names or TRL's.

    Raises:
        ConfigError: if a name has no exact counterpart, or two names say the same thing.
    """
    own = {field.name for field in fields(config)}
    given = _with_total_batch_size(_with_warmup_steps(dict(values)))
    native: Values = {}
    for name, value in given.items():
        new = name if name in own else _RENAMED.get(name, name)
        if new not in own:
            if value in _AS_IT_IS_HERE.get(name, ()) or _says_what_steps_say(name, value, given):
                _LOG.info("`%s=%r` is how it is here.", name, value)
                continue
            if (reason := reason_to_refuse(name)) is not None:
                raise ConfigError(name, value, f"nothing by this name; {reason}")
            raise TypeError(f"{config.__name__} has no setting `{name}`.{_nearest(name, own)}")
        if new in native or (new != name and new in given):
            raise ConfigError(name, value, f"only one of `{name}` and `{new}`, which mean the same")
        native[new] = _VALUES[name](value) if name in _VALUES else value
        if new != name:
            _LOG.info("`%s` is called `%s` here.", name, new)
    return native


def name_here(name: str) -> str | None:
    """Returns what one of TRL's names is called here; `None` = nothing is called so that means the same."""
    return _RENAMED.get(name)


def _says_what_steps_say(name: str, value: Any, given: Values) -> bool:
    """Returns whether `eval_strategy="steps"` and the like only repeat what the number of steps beside them says."""
    steps = _STRATEGIES.get(name)
    if steps is None:
        return False
    word = str(getattr(value, "value", value))
    return (word == "steps") if any(step in given for step in steps) else (word == "no" and name == "eval_strategy")


def _nearest(name: str, own: Collection[str]) -> str:
    near = difflib.get_close_matches(name, [*own, *_RENAMED], n=1, cutoff=0.6)
    return f" Did you mean `{near[0]}`?" if near else ""


def _with_warmup_steps(values: Values) -> Values:
    """`warmup_ratio` of a run whose steps are given, in steps: rounded up, as Hugging Face does."""
    steps = values.get("max_training_steps", values.get("max_steps"))
    if "warmup_ratio" not in values or "warmup_steps" in values or not isinstance(steps, int) or steps < 1:
        return values
    rest = dict(values)
    rest["warmup_steps"] = math.ceil(steps * rest.pop("warmup_ratio"))
    _LOG.info("`warmup_ratio` of %d steps is `warmup_steps=%d`.", steps, rest["warmup_steps"])
    return rest


def reason_to_refuse(name: str, *, families: bool = True) -> str | None:
    """Returns why one of TRL's names has no counterpart; `None` = it has one, or is none of TRL's.

    Args:
        name: the name.
        families: whether it may be one that only begins as TRL's do.
    """
    family = next((prefix for prefix in _REFUSED_FAMILIES if families and name.startswith(prefix)), None)
    return _REFUSED.get(name, None if family is None else _REFUSED_FAMILIES[family])


def _with_total_batch_size(values: Values) -> Values:
    """`per_device_train_batch_size` and accumulation, as the rows of an optimizer step that they amount to."""
    if "per_device_train_batch_size" not in values:
        return values
    if "total_batch_size" in values:
        raise ConfigError(
            "per_device_train_batch_size",
            values["per_device_train_batch_size"],
            "only one of it and `total_batch_size`, the rows of one optimizer step over all devices",
        )
    import jax  # only here: a config in native names must load without it

    rest = dict(values)
    rows = rest.pop("per_device_train_batch_size")
    steps = rest.get("gradient_accumulation_steps", 1)
    rest["total_batch_size"] = rows * steps * jax.device_count()
    _LOG.info(
        "per_device_train_batch_size=%s, gradient_accumulation_steps=%s on %s device(s) are total_batch_size=%s here.",
        *(rows, steps, jax.device_count(), rest["total_batch_size"]),
    )
    return rest
