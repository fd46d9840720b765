"""Arguments that users of TRL's trainers bring along: `args`, `ref_model`, `peft_config` and the like.

As with the settings of `trl_names`, what means exactly the same is taken, with a line in the log that gives the native
name, and what does not is refused with the reason.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any, ParamSpec

import jax

from easydel_trainers.errors import ConfigError
from easydel_trainers.run.interruption import StopAtOnce

_LOG = logging.getLogger(__name__)

P = ParamSpec("P")

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


def refuse_other_resuming(resume_from_checkpoint: Any) -> None:
    """Raises unless it is what `train()` does by itself.

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


def accepts_trl_arguments(init: Callable[P, None]) -> Callable[P, None]:
    """Lets a trainer's `__init__` take TRL's arguments too, and end at once when it is asked to: loading takes its
    time.

    Raises:
        ConfigError: of the constructor, if a name has no exact counterpart, or two names say the same thing.
    """
    call: Callable[..., None] = init
    own = inspect.signature(init).parameters

    @functools.wraps(init)
    def translated(*arguments: P.args, **options: P.kwargs) -> None:
        trainer = type(arguments[0]).__name__
        with StopAtOnce(enabled=jax.process_count() == 1):
            call(*arguments, **_native(trainer, own, options))

    return translated


def _native(trainer: str, own: Collection[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments that a trainer was made with, by our names."""
    native: dict[str, Any] = {}
    for name, value in options.items():
        new = name if name in own else _RENAMED.get(name, name)
        if new not in own and name in (*_REFUSED, *_RENAMED):
            reason = _REFUSED.get(name, f"a {trainer} compares with no other model")
            raise ConfigError(name, value, f"no such argument of {trainer}; {reason}")
        if new in native or (new != name and new in options):
            raise ConfigError(name, value, f"only one of `{name}` and `{new}`, which mean the same")
        native[new] = value
        if new != name:
            _LOG.info("`%s` is called `%s` here.", name, new)
    return native
