"""Norms of activations: computed in float32, returned in the dtype of what came in.

Axis letters: B batch, T tokens, D dim.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from easydel_models.layers.parameter import ParameterSpec


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class NormConfig:
    """Which norm a decoder uses throughout."""

    kind: Literal["rms", "layer"] = "rms"
    """``rms`` divides by the root mean square; ``layer`` subtracts the mean first."""
    eps: float = 1e-6
    """Added to the mean square."""
    offset: float = 0.0
    """Added to the stored weight: 1 for families whose files hold the difference from 1."""
    bias: bool = False
    """Whether something is added after the weight; only with ``layer``."""

    def parameters(self, name: str, width: int) -> dict[str, ParameterSpec]:
        """Returns the parameters of one norm over ``width`` numbers, by name."""
        weight = ParameterSpec(shape=(width,), kind="norm", init="zeros" if self.offset else "ones")
        bias = {f"{name}_bias": ParameterSpec(shape=(width,), kind="bias", init="zeros")} if self.bias else {}
        return {name: weight, **bias}


def normed(layer: Mapping[str, Any], name: str, x: Float[Array, "..."], norm: NormConfig) -> Float[Array, "..."]:
    """Returns ``x`` after the norm whose parameters are called ``name``."""
    if norm.kind == "rms":
        return rms_norm(x, layer[name], norm.eps, norm.offset)
    return layer_norm(x, layer[name], layer.get(f"{name}_bias"), norm.eps)


def rms_norm(
    x: Float[Array, "..."],
    weight: Float[Array, " D"] | None,
    eps: float,
    offset: float = 0.0,
    *,
    whole_mean: Callable[[Array], Array] = lambda mean: mean,
) -> Float[Array, "..."]:
    """Divides by the root mean square over the last axis and multiplies by ``offset + weight``, if there is a weight.

    Where that axis is spread over devices, ``whole_mean`` makes the mean of all parts of that of this device's.

    References: Zhang & Sennrich, Root Mean Square Layer Normalization, 2019,
        https://arxiv.org/abs/1910.07467, eq. 4.
    """
    wide = x.astype(jnp.float32)
    square = whole_mean(jnp.mean(wide * wide, axis=-1, keepdims=True))
    out = wide * jax.lax.rsqrt(square + jnp.float32(eps))
    if weight is not None:
        out = out * _along_last(weight + jnp.asarray(offset, weight.dtype) if offset else weight, x.ndim)
    return out.astype(x.dtype)


def layer_norm(
    x: Float[Array, "..."], weight: Float[Array, " D"], bias: Float[Array, " D"] | None, eps: float
) -> Float[Array, "..."]:
    """Subtracts the mean over the last axis, divides by the standard deviation, multiplies and adds.

    References: Ba et al., Layer Normalization, 2016, https://arxiv.org/abs/1607.06450, eq. 4.
    """
    wide = x.astype(jnp.float32)
    centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
    out = centred * jax.lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + jnp.float32(eps))
    out = out * _along_last(weight, x.ndim)
    return (out if bias is None else out + _along_last(bias, x.ndim)).astype(x.dtype)


def _along_last(weight: Array, ndim: int) -> Array:
    return weight.astype(jnp.float32).reshape((1,) * (ndim - 1) + weight.shape)
