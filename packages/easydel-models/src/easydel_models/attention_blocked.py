"""Attention one block of queries at a time: memory of block * length scores, forward and backward.

Where causality follows the order in the row, key blocks beyond the diagonal or before the window are known before
the run and left out: half the work at long lengths. Blocks are gathered into a few groups, each with its own static
range of keys, so that the program stays small however long the row.

Axis letters: B batch, T query tokens, S key tokens, H query heads, G key/value heads, K head_dim.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from easydel_models.attention_mask import Visibility
from easydel_models.attention_reference import attend

BLOCK = 128
"""Queries per block."""
GROUPS = 8
"""Most groups of blocks with a key range of their own."""


def blocked_attention(
    query: Float[Array, "B T H K"],
    key: Float[Array, "B S G K"],
    value: Float[Array, "B S G K"],
    visibility: Visibility,
    *,
    scale: float,
    softcap: float | None,
) -> Float[Array, "B T H K"]:
    """Attention in blocks of `BLOCK` queries; see `easydel_models.attention.attention`."""
    length = query.shape[1]
    blocks = -(-length // BLOCK)
    per_group = -(-blocks // GROUPS) * BLOCK
    groups = [
        _group(
            query, key, value, visibility, start, min(start + per_group, length), scale=scale, softcap=softcap
        )
        for start in range(0, length, per_group)
    ]
    return jnp.concatenate(groups, axis=1)


def _group(
    query: Float[Array, "B T H K"],
    key: Float[Array, "B S G K"],
    value: Float[Array, "B S G K"],
    visibility: Visibility,
    start: int,
    stop: int,
    *,
    scale: float,
    softcap: float | None,
) -> Float[Array, "B t H K"]:
    kv_start, kv_stop = visibility.key_range(start, stop)
    keys, values = key[:, kv_start:kv_stop], value[:, kv_start:kv_stop]

    @functools.partial(jax.checkpoint, static_argnums=1)
    def block(first, size):
        queries = jax.lax.dynamic_slice_in_dim(query, first, size, axis=1)
        mask = visibility.mask(first, size, kv_start, kv_stop)
        return attend(queries, keys, values, mask, scale=scale, softcap=softcap)

    whole = (stop - start) // BLOCK
    parts = []
    if whole == 1:
        parts.append(block(start, BLOCK))
    elif whole > 1:
        firsts = start + BLOCK * jnp.arange(whole, dtype=jnp.int32)
        stacked = jax.lax.map(lambda first: block(first, BLOCK), firsts)
        parts.append(jnp.moveaxis(stacked, 0, 1).reshape(query.shape[0], whole * BLOCK, *query.shape[2:]))
    rest = (stop - start) % BLOCK
    if rest:
        parts.append(block(stop - rest, rest))
    return jnp.concatenate(parts, axis=1)
