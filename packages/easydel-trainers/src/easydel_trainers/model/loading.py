"""Getting the model a trainer was given into the types its config asks for."""

from __future__ import annotations

from os import PathLike

from easydel_models import (
    AutoEasyDeLModelForCausalLM,
    AutoEasyDeLModelForSequenceClassification,
    CausalLM,
    SequenceClassifier,
)

from easydel_trainers.config import TrainerConfig
from easydel_trainers.errors import ConfigError
from easydel_trainers.step.device_mesh import on_mesh, training_mesh


def load_causal_lm(model: CausalLM | str | PathLike[str], config: TrainerConfig) -> CausalLM:
    """Returns a causal language model in `config.dtype` and `config.param_dtype`.

    Args:
        model: the model, or a folder, Hub id or `.gguf` file.
        config: names the types.
    """
    if isinstance(model, str | PathLike):
        return AutoEasyDeLModelForCausalLM.from_pretrained(
            model, dtype=config.dtype, param_dtype=config.param_dtype, mesh=training_mesh(config)
        )
    if not isinstance(model, CausalLM):
        raise ConfigError(
            "model",
            type(model).__name__,
            "a CausalLM of easydel_models, or the folder, Hub id or .gguf file to load one from",
        )
    on_mesh(model, training_mesh(config))
    model.cast(dtype=config.dtype, param_dtype=config.param_dtype)
    return model


def load_reward_model(
    model: SequenceClassifier | str | PathLike[str],
    config: TrainerConfig,
    *,
    pad_token_id: int | None,
    fresh_head: bool = True,
) -> SequenceClassifier:
    """Returns a classifier of one label in `config.dtype` and `config.param_dtype`.

    Args:
        model: the model, or a folder, Hub id or `.gguf` file.
        config: names the types, and the seed of a fresh head.
        pad_token_id: the tokenizer's; given to a model that names none, so that whoever loads it later takes the score
            at the same token.
        fresh_head: whether a language model is taken too, and gets a head to train.
    """
    if isinstance(model, str | PathLike):
        model = AutoEasyDeLModelForSequenceClassification.from_pretrained(
            model,
            seed=config.seed,
            fresh_head=fresh_head,
            dtype=config.dtype,
            param_dtype=config.param_dtype,
            mesh=training_mesh(config),
        )
    if not isinstance(model, SequenceClassifier):
        raise ConfigError(
            "model",
            type(model).__name__,
            "a SequenceClassifier of easydel_models (AutoEasyDeLModelForSequenceClassification makes one), or the "
            "folder, Hub id or .gguf file to load one from",
        )
    if model.config.num_labels != 1:
        raise ConfigError("num_labels", model.config.num_labels, "1: a reward is one number")
    if model.config.pad_token_id is None:
        model.name_tokens(pad_token_id=pad_token_id)
    on_mesh(model, training_mesh(config))
    model.cast(dtype=config.dtype, param_dtype=config.param_dtype)
    return model
