"""Getting the classifier a trainer was given into the types its config asks for."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike

import jax
import jax.numpy as jnp
from easydel_models import AutoEasyDeLModelForSequenceClassification, SequenceClassifier
from easydel_models.parameters import split_params, update_params

from easydel_trainers.config import TrainerConfig
from easydel_trainers.errors import ConfigError
from easydel_trainers.step.device_mesh import on_mesh, training_mesh


def load_reward_model(
    model: SequenceClassifier | str | PathLike[str],
    config: TrainerConfig,
    *,
    pad_token_id: int | None,
    fresh_head: bool = True,
) -> SequenceClassifier:
    """A classifier of one label in `config.dtype` and `config.param_dtype`.

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
    if config.dtype is not None:
        model.dtype = jnp.dtype(config.dtype)
    if model.config.pad_token_id is None and pad_token_id is not None:
        model.config = replace(model.config, pad_token_id=pad_token_id)
    on_mesh(model, training_mesh(config))
    _, params = split_params(model)
    update_params(model, jax.tree.map(lambda leaf: leaf.astype(config.param_dtype), params))
    return model
