"""The parts of a decoder layer, as pure functions of one layer's parameters.

Matrices multiply in the compute dtype; norms, softmax and rope compute in float32. Parameters keep their own
dtype and are cast where they are used.

Axis letters: B batch, T tokens, D dim, F mlp_dim, H query heads, G key/value heads, K head_dim.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from easydel_models.config import Activation, DecoderConfig

Layer = Mapping[str, Array]
"""Parameters of one layer, by name."""


def rms_norm(x: Float[Array, "B T D"], weight: Float[Array, " D"], eps: float) -> Float[Array, "B T D"]:
    """Divides by the root mean square over D and multiplies by ``weight``; float32 inside, dtype of ``x``
    outside.

    References: Zhang & Sennrich, Root Mean Square Layer Normalization, 2019,
        https://arxiv.org/abs/1910.07467, eq. 4.
    """
    wide = x.astype(jnp.float32)
    normed = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + jnp.float32(eps))
    return (normed * weight.astype(jnp.float32)[None, None, :]).astype(x.dtype)


def linear(layer: Layer, name: str, x: Float[Array, "B T in"]) -> Float[Array, "B T out"]:
    """Multiplies by the kernel ``name`` and adds its bias, if the layer has one; computes in the dtype of ``x``."""
    kernel, bias = layer[name], layer.get(f"{name}_bias")
    # One long matrix, not a batch of them: for a batch, XLA on CPU transposes both factors of the kernel's gradient in
    # memory first, which makes a step of the MLP 1.4 times slower.
    y = (x.reshape(-1, x.shape[-1]) @ kernel.astype(x.dtype)).reshape(*x.shape[:-1], kernel.shape[-1])
    return y if bias is None else y + bias.astype(x.dtype)[None, None, :]


def project_heads(
    layer: Layer, config: DecoderConfig, x: Float[Array, "B T D"]
) -> tuple[Float[Array, "B T H K"], Float[Array, "B T G K"], Float[Array, "B T G K"]]:
    """Returns queries, keys and values, without rope."""
    batch, length, _ = x.shape
    query = linear(layer, "query", x).reshape(batch, length, config.num_heads, config.head_dim)
    key = linear(layer, "key", x).reshape(batch, length, config.num_kv_heads, config.head_dim)
    value = linear(layer, "value", x).reshape(batch, length, config.num_kv_heads, config.head_dim)
    return query, key, value


def gated_mlp(layer: Layer, activation: Activation, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
    """``down(act(gate(x)) * up(x))``.

    References: Shazeer, GLU Variants Improve Transformer, 2020, https://arxiv.org/abs/2002.05202, eq. 6.
    """
    return linear(layer, "down", _activate(linear(layer, "gate", x), activation) * linear(layer, "up", x))


def _activate(x: Float[Array, "B T F"], activation: Activation) -> Float[Array, "B T F"]:
    if activation == "silu":
        return jax.nn.silu(x)
    return jax.nn.gelu(x, approximate=activation == "gelu_tanh")
