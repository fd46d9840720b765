"""Attention with the whole score matrix in memory: the shortest correct form, right for short inputs.

Axis letters: B batch, T query tokens, S key tokens, G key/value heads, R query heads per key/value head, K
head_dim.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from easydel_models.attention.mask import MaskInputs, Rule, Span, visible


def reference_attention(
    query: Float[Array, "B T H K"],
    key: Float[Array, "B S G K"],
    value: Float[Array, "B S G K"],
    rule: Rule,
    mask_inputs: MaskInputs,
    *,
    sinks: Float[Array, " H"] | None = None,
) -> Float[Array, "B T H K"]:
    """Attention over all keys at once; see `easydel_models.attention.attention`."""
    mask = visible(rule, mask_inputs, Span(0, rule.query_length), Span(0, rule.kv_length))
    batch, length, heads, head_dim = query.shape
    groups = key.shape[2]
    grouped = query.reshape(batch, length, groups, heads // groups, head_dim)
    scores = jnp.einsum("btgrk,bsgk->bgrts", grouped, key, preferred_element_type=jnp.float32)
    scores = scores * jnp.float32(rule.scale)
    if rule.softcap is not None:
        scores = jnp.float32(rule.softcap) * jnp.tanh(scores / jnp.float32(rule.softcap))
    of_heads = None if sinks is None else sinks.astype(jnp.float32).reshape(1, groups, heads // groups, 1, 1)
    weights = _masked_softmax(scores, mask[:, None, None], of_heads)
    mixed = jnp.einsum("bgrts,bsgk->btgrk", weights.astype(value.dtype), value)
    return mixed.reshape(query.shape).astype(query.dtype)


def _masked_softmax(
    scores: Float[Array, "*rest S"], mask: Bool[Array, "..."], sinks: Float[Array, "..."] | None
) -> Float[Array, "*rest S"]:
    # A row in which nothing is seen comes out as 0, not NaN, forward and backward.
    scores = jnp.where(mask, scores, -jnp.inf)
    highest = jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True))
    highest = jnp.where(jnp.isfinite(highest), highest, jnp.float32(0))
    if sinks is not None:
        highest = jnp.maximum(highest, jax.lax.stop_gradient(sinks))
    powers = jnp.exp(scores - highest)
    total = powers.sum(axis=-1, keepdims=True)
    if sinks is not None:
        total = total + jnp.exp(sinks - highest)
    return powers / jnp.where(total > 0, total, jnp.float32(1))
