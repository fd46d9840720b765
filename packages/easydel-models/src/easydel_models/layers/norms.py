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
    x: Float[Array, "*shape D"],
    weight: Float[Array, " D"] | None,
    eps: float,
    offset: float = 0.0,
    *,
    whole_mean: Callable[[Array], Array] = lambda mean: mean,
) -> Float[Array, "*shape D"]:
    """Divides by the root mean square over the last axis and multiplies by ``offset + weight``, if there is a weight.

    Where that axis is spread over devices, ``whole_mean`` makes the mean of all parts of that of this device's.

    References: Zhang & Sennrich, Root Mean Square Layer Normalization, 2019,
        https://arxiv.org/abs/1910.07467, eq. 4.
    """
    if weight is not None:
        weight = (weight + jnp.asarray(offset, weight.dtype) if offset else weight).astype(jnp.float32)
    return _weighted_rms(eps, whole_mean, x, weight)


def layer_norm(
    x: Float[Array, "*shape D"], weight: Float[Array, " D"], bias: Float[Array, " D"] | None, eps: float
) -> Float[Array, "*shape D"]:
    """Subtracts the mean over the last axis, divides by the standard deviation, multiplies and adds.

    References: Ba et al., Layer Normalization, 2016, https://arxiv.org/abs/1607.06450, eq. 4.
    """
    wide = x.astype(jnp.float32)
    centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
    out = rms_norm(centred, weight, eps)
    return (out if bias is None else out + _along_last(bias, x.ndim)).astype(x.dtype)


def _normalised(eps: float, whole_mean: Callable[[Array], Array], x: Array) -> tuple[Array, Array]:
    wide = x.astype(jnp.float32)
    square = whole_mean(jnp.mean(wide * wide, axis=-1, keepdims=True))
    inverse = jax.lax.rsqrt(square + jnp.float32(eps))
    return wide * inverse, inverse


def _in_float32(eps: float, whole_mean: Callable[[Array], Array], x: Array, weight: Array | None) -> Array:
    out = _normalised(eps, whole_mean, x)[0]
    return (out if weight is None else out * _along_last(weight, x.ndim)).astype(x.dtype)


def _forward(
    eps: float, whole_mean: Callable[[Array], Array], x: Array, weight: Array | None
) -> tuple[Array, tuple[Array, Array | None]]:
    return _in_float32(eps, whole_mean, x, weight), (x, weight)


def _backward(
    eps: float, whole_mean: Callable[[Array], Array], kept: tuple[Array, Array | None], grads: Array
) -> tuple[Array, Array | None]:
    """With n the normalised x, and g its gradient: ``(g - n mean(g n)) / root mean square``."""
    x, weight = kept
    out, inverse = _normalised(eps, whole_mean, x)
    grads = grads.astype(jnp.float32)
    of_out = grads if weight is None else grads * _along_last(weight, x.ndim)
    # Inner products, and not sums of products: of those, if they are float32 and of three axes or more, XLA on CPU
    # makes a program that is ten to a hundred times as slow.
    along = jnp.einsum("...d,...d->...", of_out, out)[..., None] / jnp.float32(x.shape[-1])
    of_x = (of_out - out * whole_mean(along)) * inverse
    of_weight = None if weight is None else jnp.einsum("...d,...d->d", grads, out)
    return of_x.astype(x.dtype), of_weight


_weighted_rms = jax.custom_vjp(_in_float32, nondiff_argnums=(0, 1))
_weighted_rms.defvjp(_forward, _backward)


def _along_last(weight: Array, ndim: int) -> Array:
    return weight.astype(jnp.float32).reshape((1,) * (ndim - 1) + weight.shape)
