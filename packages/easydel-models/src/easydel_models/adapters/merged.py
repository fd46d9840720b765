"""Adapters merged into the kernels they adapt: a function of trees of parameters, below the models."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from easydel_models.adapters.config import LoraConfig
from easydel_models.layers.linear import LORA_A, LORA_B, is_adapter
from easydel_models.parameters import Params, flattened, nested


def merged_params(params: Params, lora: LoraConfig) -> Params:
    """Returns the parameters with kernels ``W + scale * A B``, computed in float32; those of adapters are gone."""
    flat = flattened(params)
    merged = {path: array for path, array in flat.items() if not is_adapter(path)}
    for path in [path.removesuffix(LORA_A) for path in flat if path.endswith(LORA_A)]:
        merged[path] = _merge(merged[path], flat[path + LORA_A], flat[path + LORA_B], jnp.float32(lora.scale))
    return nested(merged)


@jax.jit
def _merge(kernel: Array, a: Array, b: Array, scale: Array) -> Array:
    product = jnp.matmul(a.astype(jnp.float32), b.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST)
    return (kernel.astype(jnp.float32) + scale * product).astype(kernel.dtype)
