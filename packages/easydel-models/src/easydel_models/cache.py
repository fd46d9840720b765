"""KV cache: the keys and values of the tokens seen so far, in one dense block per model.

How generation uses it, with prompts padded on the left so that all rows write at the same place:

    cache = init_cache(config, batch=2, capacity=prompt_length + new_tokens, dtype=model.dtype)
    hidden, cache = model.hidden(prompts, segment_ids=mask, cache=cache)      # prefill: T = prompt_length
    hidden, cache = model.hidden(token[:, None], cache=cache)                 # one step: T = 1

Every call writes its T tokens at ``cache.next_slot``, which then advances by T for all rows; it must not pass
``capacity``, which only the caller can check (a traced index cannot raise). Tokens with segment id 0 take up
their slot and are seen by nobody. Positions default to counting on in each row from its own real tokens, so
padding on the left does not shift them. A finished row is best fed segment id 0.

Donate the cache to the compiled step (``jax.jit(step, donate_argnames="cache")``) and it is updated in place.

Axis letters: L layers, B batch, S slots, G key/value heads, K head_dim, T tokens of this call.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from easydel_models.config import DecoderConfig


class KVCache(NamedTuple):
    """Keys and values of all layers, and which slot holds which token of which row."""

    key: Float[Array, "L B S G K"]
    value: Float[Array, "L B S G K"]
    segment_ids: Int[Array, "B S"]
    """Document of the token in each slot; 0 = padding or nothing written yet."""
    positions: Int[Array, "B S"]
    """Position of the token in each slot, as rope and the sliding window count."""
    next_slot: Int[Array, ""]
    """The slot the next token of every row is written to."""

    @property
    def capacity(self) -> int:
        """Number of slots."""
        return self.key.shape[2]


def init_cache(config: DecoderConfig, *, batch: int, capacity: int, dtype: np.dtype) -> KVCache:
    """Returns an empty cache.

    Args:
        config: Of the model that will fill it.
        batch: Rows.
        capacity: Slots per row: the padded prompt plus all tokens that will follow it.
        dtype: Of keys and values; the model's compute dtype.
    """
    shape = (config.num_layers, batch, capacity, config.num_kv_heads, config.head_dim)
    return KVCache(
        key=jnp.zeros(shape, dtype),
        value=jnp.zeros(shape, dtype),
        segment_ids=jnp.zeros((batch, capacity), jnp.int32),
        positions=jnp.zeros((batch, capacity), jnp.int32),
        next_slot=jnp.zeros((), jnp.int32),
    )


def next_positions(cache: KVCache, segment_ids: Int[Array, "B T"]) -> Int[Array, "B T"]:
    """Returns the positions of new tokens that carry on each row from its own real tokens; padding gets 0 or more."""
    real = (segment_ids > 0).astype(jnp.int32)
    seen = (cache.segment_ids > 0).sum(axis=1, dtype=jnp.int32)
    return jnp.maximum(seen[:, None] + jnp.cumsum(real, axis=1, dtype=jnp.int32) - 1, 0)


def occupy(cache: KVCache, segment_ids: Int[Array, "B T"], positions: Int[Array, "B T"]) -> KVCache:
    """Enters new tokens into the table of slots and advances the index; `write_layer` then fills the slots."""
    length = segment_ids.shape[1]
    if length > cache.capacity:
        raise ValueError(f"{length} tokens do not fit a cache of {cache.capacity} slots; make `capacity` larger.")
    put = functools.partial(jax.lax.dynamic_update_slice, start_indices=(jnp.int32(0), cache.next_slot))
    return cache._replace(
        segment_ids=put(cache.segment_ids, segment_ids.astype(jnp.int32)),
        positions=put(cache.positions, positions.astype(jnp.int32)),
        next_slot=cache.next_slot + jnp.int32(length),
    )


def write_layer(
    store: Float[Array, "L B S G K"],
    new: Float[Array, "B T G K"],
    layer: Int[Array, ""],
    slot: Int[Array, ""],
) -> tuple[Float[Array, "L B S G K"], Float[Array, "B S G K"]]:
    """Writes one layer's new keys or values at ``slot``.

    Returns:
        The whole store, and this layer's part of it for attention.
    """
    zero = jnp.int32(0)
    store = jax.lax.dynamic_update_slice(store, new[None].astype(store.dtype), (layer, zero, slot, zero, zero))
    return store, jax.lax.dynamic_index_in_dim(store, layer, axis=0, keepdims=False)
