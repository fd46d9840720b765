"""Names that users of TRL and of Hugging Face's TrainingArguments bring along.

A name that means exactly what one of ours means is accepted and translated, with a line in the log that gives the
native name. A name that does not is refused with the reason, rather than accepted and ignored.

The one trap is `gradient_accumulation_steps`: theirs multiplies `per_device_train_batch_size`, ours splits
`total_batch_size`. Given together with `per_device_train_batch_size` it has their meaning, alone it has ours.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from easydel_trainers.errors import ConfigError

_LOG = logging.getLogger(__name__)

Values = dict[str, Any]

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
}

_OPTIMIZERS = {
    "adamw_torch": "adamw",
    "adamw_torch_fused": "adamw",
    "adamw_hf": "adamw",
    "lion_32bit": "lion",
    "schedule_free_adamw": "schedule_free",
}
_SCHEDULERS = {"constant_with_warmup": "constant", "warmup_stable_decay": "wsd"}
_REMAT = {True: "full", False: "none"}

#: names whose values are written in another way
_VALUES: Mapping[str, Callable[[Any], Any]] = {
    "max_steps": lambda value: None if value == -1 else value,
    "max_grad_norm": lambda value: None if value == 0 else value,
    "optim": lambda value: _OPTIMIZERS.get(value, value),
    "lr_scheduler_type": lambda value: _SCHEDULERS.get(str(value), str(value)),
    "bf16": lambda value: "bfloat16" if value else "float32",
    "disable_tqdm": lambda value: not value,
    "report_to": lambda value: () if value in ("none", ["none"]) else (value,) if isinstance(value, str) else value,
    "gradient_checkpointing": lambda value: _REMAT.get(value, value) if isinstance(value, bool) else value,
}

#: names that nothing of ours means exactly, and why
_REFUSED = {
    "warmup_ratio": "give `warmup_steps`: a share of the run is another number of steps after every change of the data",
    "fp16": "use dtype='bfloat16', which needs no loss scaling",
    "tf32": "set JAX's own jax_default_matmul_precision",
    "eval_strategy": "give `evaluation_steps`, or leave it out for no evaluation",
    "save_strategy": "give `save_steps`, or leave it out for one checkpoint at the end",
    "logging_strategy": "give `log_steps`",
    "dataset_num_proc": "rows are tokenized as they are read; `easydel tokenize` prepares a set with many processes",
    "dataset_batch_size": "rows are tokenized in batches of a fixed size",
    "remove_unused_columns": "columns that no one asked for are ignored",
    "dataloader_num_workers": "one thread prepares the next steps, and the log says how long it is waited for",
    "dataloader_drop_last": "no row is dropped: a step reaches over the end of an epoch",
    "group_by_length": "rows keep their order; padding-free batches leave almost no place empty",
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
}


class AcceptsTRLNames(type):
    """Metaclass of configs: translates TRL's names before the dataclass sees them.

    A metaclass, because the dataclass decorator writes `__init__` anew for every config, and all of them must
    accept the same names.
    """

    def __call__(cls, **values: Any) -> Any:
        return super().__call__(**native_config_names(cls, values))

    @property
    def __signature__(cls) -> inspect.Signature:
        """That of the dataclass, for editors and documentation."""
        parameters = list(inspect.signature(cls.__init__).parameters.values())
        return inspect.Signature(parameters[1:])


def native_config_names(config: type, values: Mapping[str, Any]) -> Values:
    """Translate the fields a config was called with.

    Args:
        config: dataclass of our own.
        values: by our names or TRL's.

    Raises:
        ConfigError: if a name has no exact counterpart, or two names say the same thing.
    """
    own = {field.name for field in fields(config)}
    given = _with_total_batch_size(dict(values))
    native: Values = {}
    for name, value in given.items():
        if name in _REFUSED and name not in own:
            raise ConfigError(name, value, f"nothing by this name; {_REFUSED[name]}")
        new = name if name in own else _RENAMED.get(name, name)
        if new in native or (new != name and new in given):
            raise ConfigError(name, value, f"only one of `{name}` and `{new}`, which mean the same")
        native[new] = _VALUES[name](value) if name in _VALUES else value
        if new != name:
            _LOG.info("`%s` is called `%s` here.", name, new)
    return native


def native_argument_name(name: str) -> str | None:
    """Our name for an argument of TRL's trainers, or `None` if there is none."""
    return {"args": "arguments", "ref_model": "reference_model", "tokenizer": "processing_class"}.get(name)


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
