"""Getting the model a trainer was given into the types its config asks for."""

from __future__ import annotations

from os import PathLike

import jax
import jax.numpy as jnp
from easydel_models import AutoEasyDeLModelForCausalLM, CausalLM
from easydel_models.parameters import split_params, update_params

from easydel_trainers.config import TrainerConfig
from easydel_trainers.errors import ConfigError
from easydel_trainers.step.device_mesh import on_mesh, training_mesh


def load_causal_lm(model: CausalLM | str | PathLike[str], config: TrainerConfig) -> CausalLM:
    """A causal language model in `config.dtype` and `config.param_dtype`.

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
    if config.dtype is not None:
        model.dtype = jnp.dtype(config.dtype)
    on_mesh(model, training_mesh(config))
    _, params = split_params(model)
    update_params(model, jax.tree.map(lambda leaf: leaf.astype(config.param_dtype), params))
    return model
