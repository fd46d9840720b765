"""Attention with the whole score matrix in memory: the shortest correct form, right for short inputs.

Axis letters: B batch, T query tokens, S key tokens, G key/value heads, R query heads per key/value head, K head_dim.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from easydel_models.attention_mask import Visibility


def reference_attention(
    query: Float[Array, "B T H K"],
    key: Float[Array, "B S G K"],
    value: Float[Array, "B S G K"],
    visibility: Visibility,
    *,
    scale: float,
    softcap: float | None,
) -> Float[Array, "B T H K"]:
    """Attention over all keys at once; see `easydel_models.attention.attention`."""
    mask = visibility.mask(0, query.shape[1], 0, key.shape[1])
    return attend(query, key, value, mask, scale=scale, softcap=softcap)


def attend(
    query: Float[Array, "B T H K"],
    key: Float[Array, "B S G K"],
    value: Float[Array, "B S G K"],
    mask: Bool[Array, "#B #T #S"],
    *,
    scale: float,
    softcap: float | None,
) -> Float[Array, "B T H K"]:
    """Attention of these queries over these keys under an explicit mask.

    Query heads that share a key head are stacked along the query axis, so keys and values are never repeated.
    """
    batch, length, heads, head_dim = query.shape
    groups = key.shape[2]
    grouped = query.reshape(batch, length, groups, heads // groups, head_dim)
    scores = jnp.einsum("btgrk,bsgk->bgrts", grouped, key, preferred_element_type=jnp.float32)
    scores = scores * jnp.float32(scale)
    if softcap is not None:
        scores = jnp.float32(softcap) * jnp.tanh(scores / jnp.float32(softcap))
    weights = masked_softmax(scores, mask[:, None, None])
    mixed = jnp.einsum("bgrts,bsgk->btgrk", weights.astype(value.dtype), value)
    return mixed.reshape(query.shape).astype(query.dtype)


def masked_softmax(scores: Float[Array, "*rest S"], mask: Bool[Array, "..."]) -> Float[Array, "*rest S"]:
    """Softmax over the last axis among the places where ``mask`` holds; rows without any are all 0, not NaN."""
    scores = jnp.where(mask, scores, -jnp.inf)
    highest = jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True))
    powers = jnp.exp(scores - jnp.where(jnp.isfinite(highest), highest, jnp.float32(0)))
    total = powers.sum(axis=-1, keepdims=True)
    return powers / jnp.where(total > 0, total, jnp.float32(1))
