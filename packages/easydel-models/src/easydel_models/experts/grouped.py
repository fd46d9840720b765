"""Matrix products by groups of rows: every group has a kernel of its own, and only rows that exist are computed.

`jax.lax.ragged_dot` says this to accelerators, whose compilers have kernels for it. On CPUs XLA computes every row with
every group's kernel and masks (250 times the time for 128 groups), so there the groups are walked block by block.

Axis letters: N rows, sorted by their group; E groups; I inputs, O outputs.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from easydel_models.bfloat16_bits import as_bits, as_numbers
from easydel_models.products import wide_product, wide_product_of_transposed

LARGEST_BLOCK, SMALLEST_BLOCK = 256, 8


def grouped_dot(
    rows: Float[Array, "N I"], kernels: Float[Array, "E I O"], sizes: Int[Array, " E"]
) -> Float[Array, "N O"]:
    """Returns ``rows[n] @ kernels[g]`` for the group ``g`` of every row.

    Args:
        rows: Sorted by group: the first ``sizes[0]`` belong to the first group, and so on.
        kernels: One matrix per group, cast to the dtype of ``rows``.
        sizes: Rows of each group. Rows beyond their sum belong to none: they cost nothing and give zeros.
    """
    return _grouped_dot(rows, kernels, sizes)


def _product(rows: Array, kernels: Array, sizes: Array) -> Array:
    return _rows_by_kernels(rows, kernels.astype(rows.dtype), sizes)


def _forward(rows: Array, kernels: Array, sizes: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    return _product(rows, kernels, sizes), (rows, kernels, sizes)


def _backward(kept: tuple[Array, Array, Array], grads: Array) -> tuple[Array, Array, None]:
    rows, kernels, sizes = kept
    to_rows = _rows_by_kernels(grads, kernels.astype(grads.dtype), sizes, transposed=True)
    return to_rows, _rows_by_rows(rows, grads, sizes).astype(kernels.dtype), None


_grouped_dot = jax.custom_vjp(_product)
_grouped_dot.defvjp(_forward, _backward)


def _rows_by_kernels(rows: Array, kernels: Array, sizes: Array, *, transposed: bool = False) -> Array:
    def ragged(rows: Array, kernels: Array, sizes: Array) -> Array:
        product = jax.lax.ragged_dot(rows, kernels.swapaxes(1, 2) if transposed else kernels, sizes)
        return jnp.where(_in_a_group(rows, sizes), product, jnp.zeros((), rows.dtype))

    blocked = functools.partial(_blocked_product, transposed=transposed)
    return jax.lax.platform_dependent(rows, kernels, sizes, cpu=blocked, default=ragged)


def _rows_by_rows(rows: Array, grads: Array, sizes: Array) -> Array:
    """Returns every group's ``rows.T @ grads``, [E, I, O], in float32."""

    def ragged(rows: Array, grads: Array, sizes: Array) -> Array:
        numbers = jax.lax.RaggedDotDimensionNumbers(
            dot_dimension_numbers=(((0,), (0,)), ((), ())), lhs_ragged_dimensions=[0], rhs_group_dimensions=[]
        )
        return jax.lax.ragged_dot_general(rows, grads, sizes, numbers, preferred_element_type=jnp.float32)

    return jax.lax.platform_dependent(rows, grads, sizes, cpu=_blocked_outer_products, default=ragged)


def _blocked_product(rows: Array, kernels: Array, sizes: Array, *, transposed: bool) -> Array:
    count, size = rows.shape[0], _block(rows.shape[0], kernels.shape[0])
    padded, bits = as_bits((jnp.pad(rows, ((0, size), (0, 0))), kernels))

    def one(group: Array, start: Array, _: Array, result: Array) -> Array:
        block = as_numbers(jax.lax.dynamic_slice_in_dim(padded, start, size))
        kernel = as_numbers(jax.lax.dynamic_index_in_dim(bits, group, keepdims=False))
        # A block may reach into the next group; that group's own first block comes later and writes over it.
        product = wide_product(block, kernel, transposed_right=transposed).astype(block.dtype)
        return jax.lax.dynamic_update_slice_in_dim(result, as_bits(product), start, axis=0)

    zeros = as_bits(jnp.zeros((count + size, kernels.shape[1 if transposed else 2]), rows.dtype))
    product = as_numbers(_over_blocks(one, sizes, count, size, zeros)[:count])
    return jnp.where(_in_a_group(rows, sizes), product, jnp.zeros((), rows.dtype))


def _blocked_outer_products(rows: Array, grads: Array, sizes: Array) -> Array:
    count, size = rows.shape[0], _block(rows.shape[0], sizes.shape[0])
    padded, padded_grads = as_bits([jnp.pad(array, ((0, size), (0, 0))) for array in (rows, grads)])
    within = jnp.arange(size, dtype=jnp.int32)[:, None]

    def one(group: Array, start: Array, rows_here: Array, result: Array) -> Array:
        left = as_numbers(jax.lax.dynamic_slice_in_dim(padded, start, size))
        right = as_numbers(jax.lax.dynamic_slice_in_dim(padded_grads, start, size))
        right = jnp.where(within < rows_here, right, jnp.zeros((), right.dtype))
        product = wide_product_of_transposed(left, right)
        so_far = jax.lax.dynamic_index_in_dim(result, group, keepdims=False)
        return jax.lax.dynamic_update_index_in_dim(result, so_far + product, group, axis=0)

    zeros = jnp.zeros((sizes.shape[0], rows.shape[1], grads.shape[1]), jnp.float32)
    return _over_blocks(one, sizes, count, size, zeros)


def _over_blocks(
    one: Callable[[Array, Array, Array, Array], Array], sizes: Array, count: int, size: int, result: Array
) -> Array:
    """Folds ``one(group, first row, rows that are the group's, result)`` over the blocks of all groups, in order."""
    blocks = (sizes + size - 1) // size
    first_block, first_row = jnp.cumsum(blocks) - blocks, jnp.cumsum(sizes) - sizes
    numbers = jnp.arange(count // size + sizes.shape[0], dtype=jnp.int32)
    groups = jnp.searchsorted(jnp.cumsum(blocks), numbers, side="right").astype(jnp.int32)
    groups = jnp.minimum(groups, sizes.shape[0] - 1)
    within = (numbers - first_block[groups]) * size
    starts, rows_here = first_row[groups] + within, jnp.minimum(sizes[groups] - within, size)

    def step(number: Array, result: Array) -> Array:
        return one(groups[number], starts[number], rows_here[number], result)

    return jax.lax.fori_loop(jnp.int32(0), blocks.sum().astype(jnp.int32), step, result)


def _block(count: int, groups: int) -> int:
    """Returns rows of a block: about those of an even share, so that kernels are read once and little is computed in
    vain.
    """
    even = max(count // groups, 1)
    return min(LARGEST_BLOCK, max(SMALLEST_BLOCK, 1 << (even - 1).bit_length()))


def _in_a_group(rows: Array, sizes: Array) -> Array:
    return (jnp.arange(rows.shape[0], dtype=jnp.int32) < sizes.sum())[:, None]


def gathered(rows: Float[Array, "N D"], order: Int[Array, " M"], back: Int[Array, "N K"]) -> Float[Array, "M D"]:
    """Returns ``rows[order]`` for an order that takes every row K times.

    Args:
        rows: What is gathered from.
        order: Row of each result.
        back: Where among the results the K copies of every row are: the gradient is then gathered and summed rather
            than scattered, which is slow on CPUs and of no fixed order on accelerators.
    """
    return _gathered(rows, order, back)


def _rows_in_order(rows: Array, order: Array, back: Array) -> Array:
    del back  # the gradient's
    return rows[order]


def _gathered_forward(rows: Array, order: Array, back: Array) -> tuple[Array, Array]:
    return rows[order], back


def _gathered_backward(back: Array, grads: Array) -> tuple[Array, None, None]:
    return grads[back].sum(axis=1), None, None


_gathered = jax.custom_vjp(_rows_in_order)
_gathered.defvjp(_gathered_forward, _gathered_backward)
