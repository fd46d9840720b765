"""The memory of decoding: rows that begin and end at different times, each with its own number of tokens.

Where a layer keeps something of every token, a row's tokens lie in slots 0, 1, 2, … of the main store, so a token's
slot is its position and no table of positions is needed. A step would have to write every row at another slot; instead
the steps of one block write side by side into a small store of recent tokens, all rows at the same place, and only read
the main store. After the block, `settle` moves each row's recent tokens behind its older ones. `admit` and `settle`
update a store in place: the caller's is donated. What a layer keeps of a row as a whole, a recurrent state, is replaced
by each step.

A layer with a window keeps no more tokens than that: the token at position p lies in slot p modulo the window, once
there are so many.

One memory per layer and not one stack: a step reads a layer's keys where they lie. Keys and values keep the tokens'
axis before the last, which is how both products of attention read them.

Axes: B rows, G key/value heads, S slots, R recent slots, K head_dim; of prefill: P prompts, T tokens.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from easydel_models.bfloat16_bits import written
from easydel_models.config import DecoderConfig
from easydel_models.layers.tokens import Memory, newest_in_slots


@functools.partial(jax.tree_util.register_dataclass, data_fields=("layers",), meta_fields=("windows", "capacity"))
@dataclasses.dataclass(frozen=True, slots=True)
class Store:
    """What the layers keep, one memory for each."""

    layers: tuple[Memory, ...]
    windows: tuple[int | None, ...]
    """Newest tokens that each layer looks at; None = all."""
    capacity: int
    """Tokens of each row there is room for."""

    @property
    def rows(self) -> int:
        """Rows."""
        return jax.tree.leaves(self.layers)[0].shape[0]


def empty_store(config: DecoderConfig, *, rows: int, capacity: int, dtype: np.dtype) -> Store:
    """Returns a store of rows that have read nothing."""
    windows = windows_of(config)
    pairs = zip(config.all_layers, windows, strict=True)
    layers = tuple(layer.mixer.empty_memory(rows, _slots(capacity, window), dtype) for layer, window in pairs)
    return Store(layers, windows, capacity if any(layer.by_token for layer in layers) else _UNLIMITED)


def windows_of(config: DecoderConfig) -> tuple[int | None, ...]:
    """Returns how many of the newest tokens each layer looks at; None = all."""
    return tuple(layer.mixer.looks_back() for layer in config.all_layers)


def slot_bytes(config: DecoderConfig, dtype: np.dtype) -> int:
    """Returns bytes of one token of one row, all layers."""
    store = jax.eval_shape(lambda: empty_store(config, rows=1, capacity=1, dtype=dtype))
    arrays = [array for layer in store.layers for array in layer.by_token]
    return sum(math.prod(array.shape) * array.dtype.itemsize for array in arrays)


@functools.partial(jax.jit, static_argnames="capacity")
def grow(store: Store, capacity: int) -> Store:
    """Adds empty slots behind those there are, up to room for ``capacity`` tokens."""

    def larger(layer: Memory, window: int | None) -> Memory:
        more = _slots(capacity, window) - _slots(store.capacity, window)
        return layer._replace(by_token=tuple(jnp.pad(a, ((0, 0), (0, 0), (0, more), (0, 0))) for a in layer.by_token))

    layers = tuple(larger(*pair) for pair in zip(store.layers, store.windows, strict=True))
    return dataclasses.replace(store, layers=layers, capacity=capacity)


def newest_kept(
    memories: tuple[Memory, ...], windows: Sequence[int | None], lengths: Int[Array, " P"]
) -> tuple[Memory, ...]:
    """Leaves out what layers read of prompts and will not look at again.

    Args:
        memories: Of each layer, right-padded prompts side by side.
        windows: Of each layer.
        lengths: Tokens of each prompt.
    """

    def kept(array: Array, window: int) -> Array:
        if array.shape[2] <= window:
            return array
        newest = newest_in_slots(lengths, window)
        return jnp.take_along_axis(array, jnp.maximum(newest, 0)[:, None, :, None], axis=2)

    return tuple(
        memory if window is None else memory._replace(by_token=tuple(kept(a, window) for a in memory.by_token))
        for memory, window in zip(memories, windows, strict=True)
    )


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

        return dataclasses.replace(store, layers=jax.tree.map(put, store.layers, prefilled))

    return jax.lax.fori_loop(0, count, copy, store)


@functools.partial(jax.jit, donate_argnames="store")
def forget(store: Store, rows: Int[Array, " B"], count: Int[Array, ""]) -> Store:
    """Sets what the first ``count`` of ``rows`` keep as a whole to that of a row that has read nothing: zeros."""

    def clear(i: Array, store: Store) -> Store:
        def put(array: Array) -> Array:
            return _write(array, jnp.zeros((1, *array.shape[1:]), array.dtype), rows[i])

        layers = tuple(layer._replace(by_row=tuple(put(array) for array in layer.by_row)) for layer in store.layers)
        return dataclasses.replace(store, layers=layers)

    return jax.lax.fori_loop(0, count, clear, store)


@functools.partial(jax.jit, donate_argnames="store")
def settle(store: Store, recent: Store, lengths: Int[Array, " B"], steps: Int[Array, ""]) -> Store:
    """Moves every row's first ``steps`` recent tokens behind its ``lengths`` older ones.

    Where layers look at all tokens, there must be room for all slots of the recent store.
    """
    whole = [of_layer for of_layer, window in enumerate(store.windows) if _slots(store.capacity, window) != window]
    held, new = ({number: one.layers[number].by_token for number in whole} for one in (store, recent))

    def move(row: Array, held: dict[int, tuple[Array, ...]]) -> dict[int, tuple[Array, ...]]:
        def put(array: Array, new: Array) -> Array:
            return _write(array, jax.lax.dynamic_slice_in_dim(new, row, 1), row, lengths[row])

        return jax.tree.map(put, held, new)

    moved = jax.lax.fori_loop(0, store.rows, move, held)
    layers = []
    for number, (old, of_block, window) in enumerate(zip(store.layers, recent.layers, store.windows, strict=True)):
        if window is not None and number not in moved:
            pairs = zip(old.by_token, of_block.by_token, strict=True)
            moved[number] = tuple(_settled_in_ring(*pair, lengths, steps, window) for pair in pairs)
        layers.append(Memory(by_token=moved[number], by_row=of_block.by_row))
    return dataclasses.replace(store, layers=tuple(layers))


def recent_store(config: DecoderConfig, store: Store, steps: int, dtype: np.dtype) -> Store:
    """Returns the store of a block's own tokens before the first: none, and what each row keeps as a whole."""
    empty = [layer.mixer.empty_memory(store.rows, steps, dtype) for layer in config.all_layers]
    pairs = zip(empty, store.layers, strict=True)
    return Store(tuple(new._replace(by_row=old.by_row) for new, old in pairs), store.windows, steps)


_UNLIMITED = 2**31 - 1
"""Room for tokens where no layer keeps something of each."""


def _slots(capacity: int, window: int | None) -> int:
    return capacity if window is None else min(capacity, window)


def _settled_in_ring(
    held: Float[Array, "B G W K"], new: Float[Array, "B G R K"], lengths: Array, steps: Array, window: int
) -> Float[Array, "B G W K"]:
    # Every slot is written, which for slots as few as these is less work than finding those that change.
    of_block = newest_in_slots(lengths + steps, window) - lengths[:, None]
    newest = jnp.take_along_axis(new, jnp.maximum(of_block, 0)[:, None, :, None], axis=2)
    return jnp.where((of_block >= 0)[:, None, :, None], newest, held)


def _write(array: Array, new: Array, row: Array, slot: Array | None = None) -> Array:
    zero = jnp.int32(0)
    starts = [row] + [zero] * (array.ndim - 1)
    if slot is not None:
        starts[2] = slot
    return written(array, new, starts)
