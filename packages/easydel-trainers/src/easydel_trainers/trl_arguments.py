"""Arguments that users of TRL's trainers bring along: `args`, `ref_model`, `peft_config` and the like.

As with the settings of `trl_names`, what means exactly the same is taken, with a line in the log that gives the native
name, and what does not is refused with the reason.
"""

from __future__ import annotations

import inspect
import logging
from abc import ABCMeta
from typing import Any

import jax

from easydel_trainers.errors import ConfigError
from easydel_trainers.interruption import StopAtOnce

_LOG = logging.getLogger(__name__)

_RENAMED = {"args": "arguments", "ref_model": "reference_model", "tokenizer": "processing_class"}

_REFUSED = {
    "peft_config": "give `lora=LoraConfig(rank=…, alpha=…)` in the config",
    "quantization_config": "load the model with `from_pretrained(…, dtype=…)`; weights are trained as they are",
    "data_collator": "batches are laid out by the trainer; change rows with `train_dataset=source.map(…)`",
    "formatting_func": "give rows a column `text` or `messages` with `dataset.map(…)`",
    "compute_loss_func": "write a trainer of your own: it is one small folder",
    "compute_metrics": "give a callback with `on_evaluate`; metrics are computed inside the step",
    "preprocess_logits_for_metrics": "the logits of a batch are never built",
    "optimizers": "give `optimizer`, `learning_rate` and `scheduler` in the config",
    "optimizer_cls_and_kwargs": "give `optimizer` in the config",
    "model_init": "give the model",
    "reward_processing_classes": "a reward model brings its own tokenizer",
    "tools": "tools are not called while generating; give rows a column `tools` for the template",
    "rollout_func": "give an `engine`, which answers prompts in its own way",
    "environment_factory": "give an `engine`, which answers prompts in its own way",
}


#: members of TRL's trainers that ours have not, and what there is instead
_NO_MEMBERS = {
    "push_to_hub": "save the model and upload the folder with `huggingface_hub.upload_folder`",
    "create_model_card": "`save_pretrained` writes what loading needs; `report.html` says how the model came about",
    "save_state": "a run saves its own state: `save_steps` and `save_directory` in the config",
    "state": "`train()` returns `global_step`, `metrics` and `history`",
    "log_metrics": "`train()` returns the metrics, and `summary.json` holds them",
    "save_metrics": "`summary.json` of `save_directory` holds them",
    "log": "give a callback with `on_log`",
    "predict": "call `evaluate(dataset)`, or the model's `generate()`",
    "add_callback": "give `callbacks=[…]` when the trainer is made",
    "train_dataset": "the rows were opened; `describe_batch(None)` shows the first ones",
    "eval_dataset": "the rows were opened; `evaluate()` measures on them",
    "tokenizer": "it is `processing_class`",
    "args": "it is `arguments`",
    "get_train_dataloader": "`_training_batch_iterator()` gives the batches",
    "create_optimizer": "give `optimizer` in the config",
}


def no_such_member(trainer: type[Any], name: str) -> str:
    """What to say of an attribute that trainers have not."""
    reason = f": {_NO_MEMBERS[name]}" if name in _NO_MEMBERS else ""
    return f"{trainer.__name__!r} object has no attribute {name!r}{reason}"


def refuse_other_resuming(resume_from_checkpoint: Any) -> None:
    """Raise unless it is what `train()` does by itself.

    Raises:
        ConfigError: for a path or False.
    """
    if resume_from_checkpoint not in (None, True):
        raise ConfigError(
            "resume_from_checkpoint",
            resume_from_checkpoint,
            "True or nothing: a run goes on from the newest whole checkpoint of `save_directory`; with resume='never' "
            "it refuses to, and another save_directory begins anew",
        )


class AcceptsTRLArguments(ABCMeta):
    """Metaclass of trainers: translates TRL's arguments before any `__init__` sees them."""

    def __call__(cls, *arguments: Any, **options: Any) -> Any:
        with StopAtOnce(enabled=jax.process_count() == 1):  # loading takes its time
            return super().__call__(*arguments, **_native(cls, options))

    @property
    def __signature__(cls) -> inspect.Signature:
        """That of the trainer's own `__init__`, for editors and documentation."""
        parameters = list(inspect.signature(cls.__init__).parameters.values())
        return inspect.Signature(parameters[1:])


def _native(trainer: type[Any], options: dict[str, Any]) -> dict[str, Any]:
    """The arguments that a trainer was made with, by our names.

    Raises:
        ConfigError: if a name has no exact counterpart, or two names say the same thing.
    """
    own = _accepted(trainer)
    native: dict[str, Any] = {}
    for name, value in options.items():
        new = name if name in own else _RENAMED.get(name, name)
        if new not in own and name in (*_REFUSED, *_RENAMED):
            reason = _REFUSED.get(name, f"a {trainer.__name__} compares with no other model")
            raise ConfigError(name, value, f"no such argument of {trainer.__name__}; {reason}")
        if new in native or (new != name and new in options):
            raise ConfigError(name, value, f"only one of `{name}` and `{new}`, which mean the same")
        native[new] = value
        if new != name:
            _LOG.info("`%s` is called `%s` here.", name, new)
    return native


def _accepted(trainer: type[Any]) -> set[str]:
    """Names of all arguments that the trainer or one of its bases takes."""
    signatures = (inspect.signature(base.__init__) for base in trainer.__mro__ if base is not object)
    return {
        parameter.name
        for signature in signatures
        for parameter in signature.parameters.values()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
