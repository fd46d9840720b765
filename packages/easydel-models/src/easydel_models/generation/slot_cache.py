"""The KV cache of decoding: rows that begin and end at different times, each with its own number of tokens.

A row's tokens lie in slots 0, 1, 2, … of the main store, so a token's slot is its position and no table of positions is
needed. A step would have to write every row at another slot; instead the steps of one block write side by side into a
small store of recent tokens, all rows at the same place, and only read the main store. After the block, `settle` moves
each row's recent tokens behind its older ones. `admit` and `settle` update a store in place: the caller's is donated.

One array per layer and not one stack: a step reads a layer's keys where they lie. Keys and values keep the tokens' axis
before the last, which is how both products of attention read them.

Axes: B rows, G key/value heads, S slots, R recent slots, K head_dim; of prefill: P prompts, T tokens, L layers.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from easydel_models.config import DecoderConfig


class Store(NamedTuple):
    """Keys and values, one pair of arrays for each layer."""

    keys: tuple[Float[Array, "B G S K"], ...]
    values: tuple[Float[Array, "B G S K"], ...]

    @property
    def rows(self) -> int:
        """Rows."""
        return self.keys[0].shape[0]

    @property
    def capacity(self) -> int:
        """Slots of each row."""
        return self.keys[0].shape[2]


def empty_store(config: DecoderConfig, *, rows: int, capacity: int, dtype: np.dtype) -> Store:
    """Returns a store of zeros; whatever is in a slot behind a row's tokens is never seen."""
    shape = (rows, config.num_kv_heads, capacity, config.head_dim)

    def side() -> tuple[Array, ...]:
        return tuple(jnp.zeros(shape, dtype) for _ in range(config.num_layers))

    return Store(side(), side())


def slot_bytes(config: DecoderConfig, dtype: np.dtype) -> int:
    """Bytes of one token of one row, all layers."""
    return 2 * config.num_layers * config.num_kv_heads * config.head_dim * np.dtype(dtype).itemsize


@functools.partial(jax.jit, static_argnames="capacity")
def grow(store: Store, capacity: int) -> Store:
    """Adds empty slots behind those there are, up to ``capacity``."""
    more = ((0, 0), (0, 0), (0, capacity - store.capacity), (0, 0))
    return jax.tree.map(lambda array: jnp.pad(array, more), store)


@jax.jit
def pick_rows(store: Store, rows: Int[Array, " B"]) -> Store:
    """Keeps these rows, in this order."""
    return jax.tree.map(lambda array: array[rows], store)


@functools.partial(jax.jit, donate_argnames="store")
def admit(
    store: Store,
    prefilled: tuple[Float[Array, "L P T G K"], Float[Array, "L P T G K"]],
    prompts: Int[Array, " B"],
    rows: Int[Array, " B"],
    count: Int[Array, ""],
) -> Store:
    """Copies the tokens of the first ``count`` of ``prompts`` into ``rows``; a prompt may be copied more than once."""

    def copy(i: Array, store: Store) -> Store:
        def put(side: tuple[Array, ...], new: Array) -> tuple[Array, ...]:
            # [L, T, G, K] of one prompt, with heads before tokens as the store has them.
            of_prompt = jax.lax.dynamic_index_in_dim(new, prompts[i], axis=1, keepdims=False).swapaxes(1, 2)
            return tuple(
                _write(array, layer[None], rows[i], jnp.int32(0)) for array, layer in zip(side, of_prompt, strict=True)
            )

        return Store(put(store.keys, prefilled[0]), put(store.values, prefilled[1]))

    return jax.lax.fori_loop(0, count, copy, store)


@functools.partial(jax.jit, donate_argnames="store")
def settle(store: Store, recent: Store, lengths: Int[Array, " B"]) -> Store:
    """Moves every row's recent tokens behind its ``lengths`` older ones, where room for all of them must be."""

    def move(row: Array, store: Store) -> Store:
        def put(array: Array, new: Array) -> Array:
            return _write(array, jax.lax.dynamic_slice_in_dim(new, row, 1), row, lengths[row])

        return jax.tree.map(put, store, recent)

    return jax.lax.fori_loop(0, store.rows, move, store)


def write_recent(array: Float[Array, "B G R K"], new: Float[Array, "B 1 G K"], step: Int[Array, ""]) -> Array:
    """Enters the token of one step, all rows at the same place."""
    return _write(array, new.swapaxes(1, 2), jnp.int32(0), step)


def _write(array: Array, new: Array, row: Array, slot: Array) -> Array:
    zero = jnp.int32(0)
    return jax.lax.dynamic_update_slice(array, new.astype(array.dtype), (row, zero, slot, zero))
