"""The memory of decoding: rows that begin and end at different times, each with its own number of tokens.

Where a layer keeps something of every token, a row's tokens lie in slots 0, 1, 2, … of the main store, so a token's
slot is its position and no table of positions is needed. A step would have to write every row at another slot; instead
the steps of one block write side by side into a small store of recent tokens, all rows at the same place, and only read
the main store. After the block, `settle` moves each row's recent tokens behind its older ones. `admit` and `settle`
update a store in place: the caller's is donated. What a layer keeps of a row as a whole, a recurrent state, is replaced
by each step.

One memory per layer and not one stack: a step reads a layer's keys where they lie. Keys and values keep the tokens'
axis before the last, which is how both products of attention read them.

Axes: B rows, G key/value heads, S slots, R recent slots, K head_dim; of prefill: P prompts, T tokens.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from easydel_models.config import DecoderConfig
from easydel_models.layers.tokens import Memory, written


class Store(NamedTuple):
    """What the layers keep, one memory for each."""

    layers: tuple[Memory, ...]

    @property
    def rows(self) -> int:
        """Rows."""
        return jax.tree.leaves(self.layers)[0].shape[0]

    @property
    def capacity(self) -> int:
        """Slots of each row; without any limit where no layer keeps something of every token."""
        sizes = [array.shape[2] for layer in self.layers for array in layer.by_token]
        return min(sizes, default=2**31 - 1)


def empty_store(config: DecoderConfig, *, rows: int, capacity: int, dtype: np.dtype) -> Store:
    """Returns a store of rows that have read nothing."""
    return Store(tuple(layer.mixer.empty_memory(rows, capacity, dtype) for layer in config.all_layers))


def slot_bytes(config: DecoderConfig, dtype: np.dtype) -> int:
    """Bytes of one token of one row, all layers."""
    store = jax.eval_shape(lambda: empty_store(config, rows=1, capacity=1, dtype=dtype))
    arrays = [array for layer in store.layers for array in layer.by_token]
    return sum(math.prod(array.shape) * array.dtype.itemsize for array in arrays)


@functools.partial(jax.jit, static_argnames="capacity")
def grow(store: Store, capacity: int) -> Store:
    """Adds empty slots behind those there are, up to ``capacity``."""
    more = ((0, 0), (0, 0), (0, capacity - store.capacity), (0, 0))

    def larger(layer: Memory) -> Memory:
        return layer._replace(by_token=tuple(jnp.pad(array, more) for array in layer.by_token))

    return Store(tuple(larger(layer) for layer in store.layers))


@jax.jit
def pick_rows(store: Store, rows: Int[Array, " B"]) -> Store:
    """Keeps these rows, in this order."""
    return jax.tree.map(lambda array: array[rows], store)


@functools.partial(jax.jit, donate_argnames="store")
def admit(
    store: Store,
    prefilled: tuple[Memory, ...],
    prompts: Int[Array, " B"],
    rows: Int[Array, " B"],
    count: Int[Array, ""],
) -> Store:
    """Copies what was read of the first ``count`` of ``prompts`` into ``rows``; a prompt may go into several."""

    def copy(i: Array, store: Store) -> Store:
        def put(array: Array, new: Array) -> Array:
            return _write(array, jax.lax.dynamic_slice_in_dim(new, prompts[i], 1), rows[i])

        return Store(jax.tree.map(put, store.layers, prefilled))

    return jax.lax.fori_loop(0, count, copy, store)


@functools.partial(jax.jit, donate_argnames="store")
def forget(store: Store, rows: Int[Array, " B"], count: Int[Array, ""]) -> Store:
    """Sets what the first ``count`` of ``rows`` keep as a whole to that of a row that has read nothing: zeros."""

    def clear(i: Array, store: Store) -> Store:
        def put(array: Array) -> Array:
            return _write(array, jnp.zeros((1, *array.shape[1:]), array.dtype), rows[i])

        return Store(
            tuple(layer._replace(by_row=tuple(put(array) for array in layer.by_row)) for layer in store.layers)
        )

    return jax.lax.fori_loop(0, count, clear, store)


@functools.partial(jax.jit, donate_argnames="store")
def settle(store: Store, recent: Store, lengths: Int[Array, " B"]) -> Store:
    """Moves every row's recent tokens behind its ``lengths`` older ones, where room for all of them must be."""

    def move(row: Array, arrays: list[Array]) -> list[Array]:
        def put(array: Array, new: Array) -> Array:
            return _write(array, jax.lax.dynamic_slice_in_dim(new, row, 1), row, lengths[row])

        return [put(array, new) for array, new in zip(arrays, _by_token(recent), strict=True)]

    moved = iter(jax.lax.fori_loop(0, store.rows, move, _by_token(store)))
    return Store(
        tuple(
            Memory(by_token=tuple(next(moved) for _ in layer.by_token), by_row=layer.by_row) for layer in recent.layers
        )
    )


def recent_store(config: DecoderConfig, store: Store, steps: int, dtype: np.dtype) -> Store:
    """Returns the store of a block's own tokens before the first: none, and what each row keeps as a whole."""
    empty = empty_store(config, rows=store.rows, capacity=steps, dtype=dtype)
    pairs = zip(empty.layers, store.layers, strict=True)
    return Store(tuple(new._replace(by_row=old.by_row) for new, old in pairs))


def _by_token(store: Store) -> list[Float[Array, "B G S K"]]:
    return [array for layer in store.layers for array in layer.by_token]


def _write(array: Array, new: Array, row: Array, slot: Array | None = None) -> Array:
    zero = jnp.int32(0)
    starts = [row] + [zero] * (array.ndim - 1)
    if slot is not None:
        starts[2] = slot
    return written(array, new, starts)
