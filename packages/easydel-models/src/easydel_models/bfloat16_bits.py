"""bfloat16 arrays as integers of the same bits.

XLA on CPU knows no bfloat16 arithmetic but products. It widens a whole bfloat16 array to take or to write a part of it,
in every round of a loop, and narrows the part again. Integers it moves as they are.
"""

from collections.abc import Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Shaped

_Tree = TypeVar("_Tree")


def as_bits(tree: _Tree) -> _Tree:
    """Returns the tree with every bfloat16 array as uint16, which no other array may be. No gradient passes."""
    return jax.tree.map(lambda array: _bitcast(array, jnp.bfloat16, jnp.uint16), tree)


def seen_as_bits(tree: _Tree) -> _Tree:
    """Does what `as_bits` does, without a copy: of arrays that lie on one CPU, and are not being traced.

    Others stay as they are.
    """

    def seen(array: Array) -> Array:
        devices = array.sharding.device_set
        if array.dtype != jnp.bfloat16 or [device.platform for device in devices] != ["cpu"]:
            return array
        return jax.device_put(np.asarray(array).view(np.uint16), *devices)

    return jax.tree.map(seen, tree)


def as_numbers(tree: _Tree) -> _Tree:
    """Returns the tree with every uint16 array as the bfloat16 numbers that it stands for."""
    return jax.tree.map(lambda array: _bitcast(array, jnp.uint16, jnp.bfloat16), tree)


def written(held: Array, new: Array, starts: Sequence[Int[Array, ""]]) -> Array:
    """Returns ``held`` with ``new``, in its dtype, from ``starts`` on, one start for each axis."""
    bits, new_bits = as_bits((held, new.astype(held.dtype)))
    return as_numbers(jax.lax.dynamic_update_slice(bits, new_bits, starts))


def looked_up(table: Shaped[Array, "V D"], rows: Int[Array, "*R"]) -> Float[Array, "*R D"]:
    """Returns rows of a table, which may be numbers or bits. No gradient passes."""
    return as_numbers(as_bits(table)[rows])


def _bitcast(array: Array, before: DTypeLike, after: DTypeLike) -> Array:
    return jax.lax.bitcast_convert_type(array, after) if array.dtype == before else array
