"""Low-rank adapters (LoRA): a few small matrices are trained beside the kernels, which stay as they are.

An adapted kernel W [in, out] computes ``x W + scale * (drop(x) A) B`` with A [in, rank] and B [rank, out]. Like the
kernels, all layers' A are one stacked array, ``layers.query_lora_a`` [layers, in, rank], and the adapted model runs
through the same scan; each expert has a pair of its own, ``layers.expert_up_lora_a`` [layers, experts, in, rank].
Switched off, the adapter leaves exactly the base model, on the same arrays: a reference model that costs no memory.

    model = with_lora(model, LoraConfig(rank=16), seed=0)
    trainable, frozen = split_trainable(split_params(model)[1])  # differentiate the first, pass the second on
    base = without_lora(model)

References: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021, https://arxiv.org/abs/2106.09685;
    Kalajdzievski, A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA, 2023,
    https://arxiv.org/abs/2312.03732 (rslora).
"""

import math
from collections.abc import Mapping
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from easydel_models.adapters.config import LoraConfig
from easydel_models.adapters.merged import merged_params
from easydel_models.adapters.targets import adapted_kernels
from easydel_models.errors import LoraError
from easydel_models.heads import DecoderModel
from easydel_models.layers.linear import LORA_A, LORA_B, is_adapter
from easydel_models.parameters import Params, flattened, nested, parameter_key, parameter_specs, split_params
from easydel_models.random_keys import key_of_seed

Model = TypeVar("Model", bound=DecoderModel)


def with_lora(model: Model, lora: LoraConfig, *, seed: int = 0) -> Model:
    """Returns the model with fresh adapters, which change nothing yet: A is drawn, B is 0.

    The new model shares the old one's arrays. A is uniform in ±1/sqrt(in), as PEFT draws it; both are float32
    whatever the kernels are.

    Args:
        model: Without adapters.
        lora: Rank, scale and targets.
        seed: Of the matrices A.

    Raises:
        LoraError: If the model has adapters already, or a target matches nothing.
    """
    if model.lora is not None:
        raise LoraError("the model has adapters already; go on with them, or give `merge_lora(model)` fresh ones.")
    specs, root = parameter_specs(model.config), key_of_seed(seed)
    adapters = {}
    for path in adapted_kernels(model.config, lora):
        *layers, rows, columns = specs[path].full_shape  # layers, and experts where it is theirs
        bound, key = 1 / math.sqrt(rows), parameter_key(root, path + LORA_A)
        adapters[path + LORA_A] = jax.random.uniform(
            key, (*layers, rows, lora.rank), jnp.float32, minval=-bound, maxval=bound
        )
        adapters[path + LORA_B] = jnp.zeros((*layers, lora.rank, columns), jnp.float32)
    return with_adapters(model, lora, adapters)


def with_adapters(model: Model, lora: LoraConfig, adapters: Mapping[str, Array]) -> Model:
    """Returns the model with the given adapters, by path: ``layers.query_lora_a`` [layers, in, rank] and so on."""
    params = nested(flattened(split_params(model)[1]) | dict(adapters))
    return type(model)(model.config, params, dtype=model.dtype, lora=lora)


def without_lora(model: Model) -> Model:
    """Returns the base model, on the same arrays: the adapted one with its adapters switched off."""
    base = {path: array for path, array in flattened(split_params(model)[1]).items() if not is_adapter(path)}
    return type(model)(model.config, nested(base), dtype=model.dtype)


def merge_lora(model: Model) -> Model:
    """Returns a model without adapters whose kernels are ``W + scale * A B``, computed in float32."""
    if model.lora is None:
        return model
    params = merged_params(split_params(model)[1], model.lora)
    return type(model)(model.config, params, dtype=model.dtype)


def split_trainable(params: Params) -> tuple[Params, Params]:
    """Splits parameters into those that are trained and those that stay as they are.

    With adapters: the adapters, and a classifier's ``score``, which no pretrained model knows, against all others.
    Without: all against none. `combine_params` puts them together again; both trees hold the very same arrays.
    """
    flat = flattened(params)
    trained = {path: leaf for path, leaf in flat.items() if is_adapter(path)}
    if not trained:
        return params, {}
    trained |= {path: leaf for path, leaf in flat.items() if path == "score"}
    return nested(trained), nested({path: leaf for path, leaf in flat.items() if path not in trained})


def combine_params(trainable: Params, frozen: Params) -> Params:
    """Returns the reverse of `split_trainable`."""
    return nested(flattened(frozen) | flattened(trainable)) if frozen else trainable
