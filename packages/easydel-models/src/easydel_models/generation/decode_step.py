"""One token through the decoder: the layers, one after the other, over a `slot_cache`.

Axes: B rows, D dim, G key/value heads, R query heads of each, S slots, K head_dim.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from easydel_models.config import DecoderConfig
from easydel_models.decoder import finish_layer, rotated_heads
from easydel_models.generation.slot_cache import Store, write_recent
from easydel_models.generation.weights import DecodeWeights
from easydel_models.layers.linear import rms_norm, times_blocked
from easydel_models.layers.rope import rope_tables


def decode_step(
    config: DecoderConfig,
    weights: DecodeWeights,
    tokens: Int[Array, " B"],
    store: Store,
    recent: Store,
    *,
    lengths: Int[Array, " B"],
    step: Int[Array, ""],
) -> tuple[Float[Array, "B V"], Store]:
    """Returns the float32 logits after ``tokens``, and ``recent`` with them entered.

    Args:
        config: The decoder's switches.
        weights: Its weights.
        tokens: The newest token of each row, in neither store yet.
        store: What was settled before this block; only read.
        recent: The tokens of this block's steps so far.
        lengths: How many slots of ``store`` each row uses.
        step: Which step of the block this is, from 0.
    """
    cos, sin = rope_tables(config.rope, config.head_dim, (lengths + step)[:, None])
    seen = _seen(config, store, recent, lengths, step)
    x = weights.embedding[tokens][:, None]
    keys, values = list(recent.keys), list(recent.values)
    for i, layer in enumerate(weights.layers):
        query, key, value = rotated_heads(config, layer, x, cos, sin)
        keys[i], values[i] = write_recent(keys[i], key, step), write_recent(values[i], value, step)
        mixed = _attend(query, (store.keys[i], keys[i]), (store.values[i], values[i]), seen)
        x = finish_layer(config, layer, x, mixed)
    hidden = rms_norm(x, weights.final_norm, config.norm_eps)[:, 0]
    logits = times_blocked(hidden, weights.head_blocks(), result=jnp.float32)
    return logits, Store(tuple(keys), tuple(values))


def _seen(config: DecoderConfig, store: Store, recent: Store, lengths: Array, step: Array) -> Bool[Array, "B 1 1 S"]:
    """Which slots of both stores, side by side, a row's newest token sees."""
    old = jnp.arange(store.capacity, dtype=jnp.int32)[None]
    new = jnp.arange(recent.capacity, dtype=jnp.int32)[None]
    old_seen, new_seen = old < lengths[:, None], jnp.broadcast_to(new <= step, (store.rows, recent.capacity))
    if config.sliding_window is not None:
        first = step - jnp.int32(config.sliding_window - 1)
        old_seen, new_seen = old_seen & (old >= lengths[:, None] + first), new_seen & (new >= first)
    return jnp.concatenate((old_seen, new_seen), axis=1)[:, None, None]


def _attend(
    query: Float[Array, "B 1 H K"],
    keys: tuple[Float[Array, "B G S K"], Float[Array, "B G R K"]],
    values: tuple[Float[Array, "B G S K"], Float[Array, "B G R K"]],
    seen: Bool[Array, "B 1 1 both"],
) -> Float[Array, "B 1 H K"]:
    """Attention over both stores at once: one softmax, products apart, so that nothing is copied together."""
    rows, _, heads, head_dim = query.shape
    groups, old = keys[0].shape[1], keys[0].shape[2]
    grouped = query.reshape(rows, groups, heads // groups, head_dim)
    scores = [jnp.einsum("bgrk,bgsk->bgrs", grouped, part, preferred_element_type=jnp.float32) for part in keys]
    scores = jnp.where(seen, jnp.concatenate(scores, axis=-1) * jnp.float32(head_dim**-0.5), -jnp.inf)
    weights = jax.nn.softmax(scores, axis=-1).astype(values[0].dtype)
    parts = (weights[..., :old], weights[..., old:])
    mixed = [
        jnp.einsum("bgrs,bgsk->bgrk", part, value, preferred_element_type=jnp.float32)
        for part, value in zip(parts, values, strict=True)
    ]
    return (mixed[0] + mixed[1]).reshape(query.shape).astype(query.dtype)
