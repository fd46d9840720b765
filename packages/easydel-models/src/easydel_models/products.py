"""Matrix products of bfloat16 numbers, added up in float32.

XLA on CPU has two ways to multiply bfloat16 numbers: by the processor's own instructions, at twice float32's speed, if
the result is float32 and the factors lie in memory as it wants them; otherwise both are widened first, and nothing is
gained. A transposition before a product is widened, so that none is asked for here: of the right factor it is a matter
of which axes are summed over, and of the left factor, which has to lie row by row, of where its numbers lie.
"""

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Float


def product(rows: Float[Array, "N in"], kernel: Float[Array, "in out"]) -> Float[Array, "N out"]:
    """Returns ``rows @ kernel`` in the dtype of ``rows``.

    The kernel's gradient is in the kernel's dtype: of a float32 kernel it has not been rounded to bfloat16.
    """
    if rows.dtype == jnp.bfloat16:
        return _bfloat16_product(rows, kernel)
    return rows @ kernel.astype(rows.dtype)


def wide_product(
    left: Float[Array, "*batch N K"], right: Float[Array, "*batch _ _"], *, transposed_right: bool = False
) -> Float[Array, "*batch N _"]:
    """Returns ``left @ right`` in float32, or ``left @ right.T`` for a ``right`` of [*batch, M, K]; of one dtype."""
    if left.shape[-2] == 1 and left.dtype == jnp.bfloat16 and jax.default_backend() == "cpu":
        # There are no such instructions for a single row; two are multiplied in less than a tenth of the time.
        twice = jnp.concatenate([left, left], axis=-2)
        return wide_product(twice, right, transposed_right=transposed_right)[..., :1, :]
    batch = tuple(range(left.ndim - 2))
    summed = (left.ndim - 1,), (right.ndim - (1 if transposed_right else 2),)
    return jax.lax.dot_general(left, right, (summed, (batch, batch)), preferred_element_type=jnp.float32)


def wide_product_of_transposed(
    left: Float[Array, "*batch K N"], right: Float[Array, "*batch K M"]
) -> Float[Array, "*batch N M"]:
    """Returns ``left.T @ right`` in float32; both have one dtype."""
    summed, rows, columns = left.shape[-2], left.shape[-1], right.shape[-1]
    if 2 * columns * (summed + rows) < summed * rows:  # then turning over the other factor and the result is less work
        return row_by_row(wide_product_of_transposed(right, left)).swapaxes(-1, -2)
    return wide_product(row_by_row(left.swapaxes(-1, -2)), right)


def row_by_row(array: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns an array that lies in memory as its axes say: a factor that was turned over, a product that will be.

    On CPU XLA would ask the product itself for the transposition, which for bfloat16 is slow or refused.
    """
    if jax.default_backend() != "cpu":
        return array
    return with_layout_constraint(array, Layout(tuple(range(array.ndim))))


def _rounded(rows: Array, kernel: Array) -> Array:
    return wide_product(rows, kernel.astype(rows.dtype)).astype(rows.dtype)


def _forward(rows: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _rounded(rows, kernel), (rows, kernel)


def _backward(kept: tuple[Array, Array], grads: Array) -> tuple[Array, Array]:
    rows, kernel = kept
    of_rows = wide_product(grads, kernel.astype(grads.dtype), transposed_right=True)
    return of_rows.astype(rows.dtype), wide_product_of_transposed(rows, grads).astype(kernel.dtype)


_bfloat16_product = jax.custom_vjp(_rounded)
_bfloat16_product.defvjp(_forward, _backward)
