"""Linear layers: a kernel, what its adapter adds, a bias.

Matrices multiply in the compute dtype. Parameters keep their own dtype and are cast where they are used.

Axis letters: B batch, T tokens, N rows of a matrix.
"""

import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from easydel_models.products import product

Layer = Mapping[str, Any]
"""Parameters of one layer, by name; under `DROPOUT` what training leaves out of its adapters' inputs."""

LORA_A, LORA_B = "_lora_a", "_lora_b"
"""Endings of a kernel's name that name its adapter's two matrices."""

DROPOUT = "lora_dropout"


class LoraDropout(NamedTuple):
    """Which inputs of a layer's adapters a training pass leaves out. With a leading axis: of all layers."""

    key: Array
    """Random key."""
    rate: Float[Array, "..."]
    """Share left out, in [0, 1)."""


@runtime_checkable
class Exchange(Protocol):
    """How a kernel whose inputs are spread over devices comes to whole outputs; see `easydel_models.mesh.parallel`."""

    def summed(self, part: Array) -> Array:
        """Returns the sum of all devices' parts."""
        ...

    def own_part(self, key: Array) -> Array:
        """Returns a random key that is this device's own."""
        ...

    def of_whole_row(self, array: Array) -> Array:
        """Returns what all devices that share a row have of it, [B, T, ...]."""
        ...

    def own_tokens(self, array: Array) -> Array:
        """Returns the part of a whole row, [B, T, ...], that is this device's; the reverse of `of_whole_row`."""
        ...


def linear(
    layer: Layer, name: str, x: Float[Array, "B T in"], exchange: Exchange | None = None
) -> Float[Array, "B T out"]:
    """Multiplies by the kernel ``name``, adds what its adapter and its bias add, if there are any.

    Computes in the dtype of ``x``. A kernel is [in, out], or cut up by its outputs as `blocked_kernel` gives it.
    Where the inputs are spread over devices, ``exchange`` sums their parts.
    """
    kernel, bias = layer[name], layer.get(f"{name}_bias")
    # One long matrix, not a batch of them: for a batch, XLA on CPU transposes both factors of the kernel's gradient in
    # memory first, which makes a step of the MLP 1.4 times slower.
    rows = x.reshape(-1, x.shape[-1])
    y = product(rows, kernel) if kernel.ndim == 2 else times_blocked(rows, kernel)
    if name + LORA_A in layer:
        y = y + _low_rank(layer, name, rows, exchange)
    y = y if exchange is None else exchange.summed(y)
    y = y.reshape(*x.shape[:-1], y.shape[-1])
    return y if bias is None else y + bias.astype(x.dtype)[None, None, :]


def blocked_kernel(table: Float[Array, "out in"], blocks: int) -> Float[Array, "blocks part in"]:
    """Cuts a matrix [out, in] into so many parts of its outputs.

    For few rows XLA on CPU multiplies by such parts up to twice as fast as by the whole matrix in either order.
    """
    return table.reshape(blocks, table.shape[0] // blocks, table.shape[1])


def times_blocked(
    rows: Float[Array, "N in"], kernel: Float[Array, "blocks part in"], *, result: DTypeLike | None = None
) -> Float[Array, "N out"]:
    """``rows @ table.T`` for the table that was cut up into ``kernel``; ``result`` is its dtype, None = the rows'."""
    parts = jnp.einsum("ni,bpi->bnp", rows, kernel.astype(rows.dtype), preferred_element_type=jnp.float32)
    return parts.swapaxes(0, 1).reshape(rows.shape[0], -1).astype(rows.dtype if result is None else result)


def whole_kernel(layer: Layer, name: str, dtype: DTypeLike) -> Float[Array, "in out"]:
    """Returns the kernel ``name`` and what its adapter adds to it, as one matrix."""
    kernel = layer[name]
    kernel = (kernel if kernel.ndim == 2 else kernel.reshape(-1, kernel.shape[2]).T).astype(dtype)
    if name + LORA_A not in layer:
        return kernel
    return kernel + layer[name + LORA_A].astype(dtype) @ layer[name + LORA_B].astype(dtype)


def is_adapter(path: str) -> bool:
    """Returns whether a parameter, by its name or dotted path, belongs to an adapter."""
    return path.endswith((LORA_A, LORA_B))


def _low_rank(layer: Layer, name: str, rows: Float[Array, "N in"], exchange: Exchange | None) -> Float[Array, "N out"]:
    a, b = layer[name + LORA_A], layer[name + LORA_B]
    dropout: LoraDropout | None = layer.get(DROPOUT)
    if dropout is not None:
        # A stream of its own for every linear layer, folded from its name, so that adapting one more leaves the others.
        key = jax.random.fold_in(dropout.key, zlib.crc32(name.encode()))
        key = key if exchange is None else exchange.own_part(key)
        kept = 1 - dropout.rate
        mask = jax.random.bernoulli(key, kept, rows.shape)
        rows = jnp.where(mask, rows / kept.astype(rows.dtype), jnp.zeros((), rows.dtype))
    return product(product(rows, a), b)
