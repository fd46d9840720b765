"""Attention one block of queries at a time: memory of block * length scores, forward and backward.

The forward pass keeps, beside its result, one number per query and head: the logarithm of its softmax
denominator. From it the backward pass rebuilds the weights of one block at a time. Both are named
``"attention"`` for rematerialisation policies, so that recomputing a layer need not run its attention again.

Each block looks up, in the mask itself, the stretch of keys that any of its queries sees, and multiplies with
no others: not those beyond the diagonal, before the window, of other documents, or of padding. The stretch is
data, array sizes are not; so there is one compiled branch for each of a few stretch lengths.

Axis letters: B batch, T query tokens, S key tokens, G key/value heads, R query heads per key/value head, K
head_dim, t and s the queries and keys of one block.

References: Dao et al., FlashAttention, 2022, https://arxiv.org/abs/2205.14135, appendix B (backward pass);
    Rabe & Staats, Self-attention Does Not Need O(n²) Memory, 2021, https://arxiv.org/abs/2112.05682.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Int

from easydel_models.attention.mask import MaskInputs, Rule, Span, visible
from easydel_models.products import wide_product, wide_product_of_transposed

BLOCK = 128
"""Queries per block; of 64 to 512 the fastest on CPU at 4 rows of 512 tokens with 9 heads."""


def blocked_attention(
    query: Float[Array, "B T H K"],
    key: Float[Array, "B S G K"],
    value: Float[Array, "B S G K"],
    rule: Rule,
    mask_inputs: MaskInputs,
    *,
    sinks: Float[Array, " H"] | None = None,
) -> Float[Array, "B T H K"]:
    """Attention in blocks of `BLOCK` queries; see `easydel_models.attention.attention`."""
    batch, length, heads, head_dim = query.shape
    groups = key.shape[2]
    mask_inputs = _whole_mask_inputs(mask_inputs, batch, length, key.shape[1])
    query, key, value = (_whole_blocks(array) for array in (query, key, value))
    grouped = query.reshape(batch, query.shape[1], groups, heads // groups, head_dim)
    of_heads = None if sinks is None else sinks.astype(jnp.float32).reshape(groups, heads // groups)
    inputs = _Heads(grouped.transpose(0, 2, 3, 1, 4), key.swapaxes(1, 2), value.swapaxes(1, 2), of_heads)
    mixed = _attend(rule, inputs, mask_inputs)
    return jnp.transpose(mixed, (0, 3, 1, 2, 4)).reshape(query.shape)[:, :length]


class _Heads(NamedTuple):
    query: Float[Array, "B G R T K"]
    key: Float[Array, "B G S K"]
    value: Float[Array, "B G S K"]
    sinks: Float[Array, "G R"] | None
    """Scores without a value; None = there are none."""


class _Rows(NamedTuple):
    """What the backward pass needs of each query."""

    query: Float[Array, "B G R t K"]
    d_mixed: Float[Array, "B G R t K"]
    normaliser: Float[Array, "B G R t"]
    """Logarithm of the softmax denominator."""
    delta: Float[Array, "B G R t"]
    """Inner product of the result and its gradient: the mean of the weights' gradients under the weights."""


def _mixed(rule: Rule, inputs: _Heads, mask_inputs: MaskInputs) -> Float[Array, "B G R T K"]:
    return _attend_forward(rule, inputs, mask_inputs)[0]


def _attend_forward(rule, inputs, mask_inputs):
    def block(start):
        def branch(keys: Span):
            if not keys.size:
                return jnp.zeros_like(_rows_of(inputs.query, start)), jnp.zeros((*inputs.query.shape[:3], BLOCK))
            mask = visible(rule, mask_inputs, Span(start, BLOCK), keys)[:, None, None]
            of_block, key, value = (
                _rows_of(inputs.query, start),
                _keys_of(inputs.key, keys),
                _keys_of(inputs.value, keys),
            )
            return _block_forward(rule, _Heads(of_block, key, value, inputs.sinks), mask)

        return _with_seen_keys(rule, mask_inputs, start, inputs.key.shape[2], branch)

    mixed, normaliser = jax.lax.map(block, _starts(inputs))
    mixed = checkpoint_name(_in_a_row(mixed), "attention")
    normaliser = checkpoint_name(_in_a_row(normaliser), "attention")
    return mixed, (inputs, mask_inputs, mixed, normaliser)


def _attend_backward(rule, kept, d_mixed):
    inputs, mask_inputs, mixed, normaliser = kept
    key, value = inputs.key, inputs.value
    # Inner products, and not sums of products: see `easydel_models.layers.norms`.
    delta = jnp.einsum("...k,...k->...", d_mixed.astype(jnp.float32), mixed.astype(jnp.float32))
    rows = _Rows(inputs.query, d_mixed, normaliser, delta)

    def block(sums: tuple[Array, Array], start: Array) -> tuple[tuple[Array, Array], Array]:
        def branch(keys: Span):
            if not keys.size:
                return sums, jnp.zeros_like(_rows_of(inputs.query, start))
            of_block = _Rows(*(_rows_of(array, start) for array in rows))
            mask = visible(rule, mask_inputs, Span(start, BLOCK), keys)[:, None, None]
            d_query, *d_parts = _block_backward(rule, of_block, _keys_of(key, keys), _keys_of(value, keys), mask)
            added = [_add_to_keys(total, part, keys) for total, part in zip(sums, d_parts, strict=True)]
            return tuple(added), d_query

        return _with_seen_keys(rule, mask_inputs, start, key.shape[2], branch)

    zeros = jnp.zeros(key.shape, jnp.float32), jnp.zeros(value.shape, jnp.float32)
    (d_key, d_value), d_queries = jax.lax.scan(block, zeros, _starts(inputs))
    d_sinks = None
    if inputs.sinks is not None:
        # A sink's value is 0, so that its weight p passes -p times the mean of the others' gradients.
        weight = jnp.exp(inputs.sinks[None, :, :, None] - normaliser)
        d_sinks = -jnp.sum(weight * delta, axis=(0, 3))
    return _Heads(_in_a_row(d_queries), d_key.astype(key.dtype), d_value.astype(value.dtype), d_sinks), None


_attend = jax.custom_vjp(_mixed, nondiff_argnums=(0,))
_attend.defvjp(_attend_forward, _attend_backward)


def _with_seen_keys(
    rule: Rule, mask_inputs: MaskInputs, start: Int[Array, ""], length: int, function: Callable[[Span], Any]
) -> Any:
    """Calls ``function`` with a stretch of keys that holds all that the block from ``start`` on sees."""
    seen = visible(rule, mask_inputs, Span(start, BLOCK), Span(0, length)).any(axis=(0, 1))
    seen = jnp.broadcast_to(seen, (length,))
    first = jnp.argmax(seen).astype(jnp.int32)
    end = jnp.int32(length) - jnp.argmax(seen[::-1]).astype(jnp.int32)
    needed = jnp.where(seen.any(), end - first, jnp.int32(0))
    sizes = stretch_sizes(min(length, rule.longest_view(BLOCK)))
    branches = [
        lambda end, size=size: function(Span(jnp.maximum(end - jnp.int32(size), jnp.int32(0)), size)) for size in sizes
    ]
    return jax.lax.switch(jnp.searchsorted(jnp.asarray(sizes, jnp.int32), needed), branches, end)


def stretch_sizes(longest: int) -> list[int]:
    """Returns the stretch lengths that are compiled: none, 1, 2, 3, 4, 6, 8, 12, … blocks, up to ``longest``."""
    most = -(-longest // BLOCK)
    steps = {1, most} | {
        step for k in range(most.bit_length()) for step in (2**k, 3 * 2 ** max(k - 1, 0)) if step < most
    }
    return [0, *(step * BLOCK for step in sorted(steps))]


def _block_forward(
    rule: Rule, block: _Heads, mask: Bool[Array, "#B 1 1 #t #s"]
) -> tuple[Float[Array, "B G R t K"], Float[Array, "B G R t"]]:
    query, key, value, sinks = block
    scores = jnp.where(mask, _scores(rule, query, key), -jnp.inf)
    highest = scores.max(axis=-1)
    highest = jnp.where(jnp.isfinite(highest), highest, jnp.float32(0))  # a query that sees nothing
    if sinks is not None:
        highest = jnp.maximum(highest, sinks[None, :, :, None])
    powers = jnp.exp(scores - highest[..., None])
    total = powers.sum(axis=-1)
    if sinks is not None:
        total = total + jnp.exp(sinks[None, :, :, None] - highest)
    total = jnp.where(total > 0, total, jnp.float32(1))
    mixed = _rows_times(powers.astype(value.dtype), value) / total[..., None]
    return mixed.astype(query.dtype), highest + jnp.log(total)


def _block_backward(
    rule: Rule,
    rows: _Rows,
    key: Float[Array, "B G s K"],
    value: Float[Array, "B G s K"],
    mask: Bool[Array, "#B 1 1 #t #s"],
) -> tuple[Float[Array, "B G R t K"], Float[Array, "B G s K"], Float[Array, "B G s K"]]:
    scores = _scores(rule, rows.query, key)
    weights = jnp.where(mask, jnp.exp(scores - rows.normaliser[..., None]), jnp.float32(0))
    d_weights = _rows_times(rows.d_mixed, value, transposed=True)
    d_scores = weights * (d_weights - rows.delta[..., None]) * jnp.float32(rule.scale)
    if rule.softcap is not None:
        d_scores = d_scores * (1 - jnp.square(scores / jnp.float32(rule.softcap)))
    d_scores = d_scores.astype(rows.query.dtype)
    d_query = _rows_times(d_scores, key).astype(rows.query.dtype)
    d_value = _sum_over_rows(weights.astype(rows.d_mixed.dtype), rows.d_mixed)
    return d_query, _sum_over_rows(d_scores, rows.query), d_value


def _scores(rule: Rule, query: Float[Array, "B G R t K"], key: Float[Array, "B G s K"]) -> Float[Array, "B G R t s"]:
    scores = _rows_times(query, key, transposed=True) * jnp.float32(rule.scale)
    if rule.softcap is None:
        return scores
    return jnp.float32(rule.softcap) * jnp.tanh(scores / jnp.float32(rule.softcap))


# The query heads that share a key head are stacked as rows of one matrix, so keys and values are never
# repeated.
def _rows_times(
    rows: Float[Array, "B G R t in"], matrix: Float[Array, "B G _ _"], *, transposed: bool = False
) -> Float[Array, "B G R t _"]:
    batch, groups, repeats, size, width = rows.shape
    stacked = rows.reshape(batch, groups, repeats * size, width)
    product = wide_product(stacked, matrix, transposed_right=transposed)
    return product.reshape(batch, groups, repeats, size, product.shape[-1])


def _sum_over_rows(left: Float[Array, "B G R t s"], right: Float[Array, "B G R t K"]) -> Float[Array, "B G s K"]:
    stacked = (rows.reshape(*rows.shape[:2], -1, rows.shape[-1]) for rows in (left, right))
    return wide_product_of_transposed(next(stacked), next(stacked))


def _rows_of(array: Array, start: Int[Array, ""]) -> Array:
    return jax.lax.dynamic_slice_in_dim(array, start, BLOCK, axis=3)


def _keys_of(array: Float[Array, "B G S K"], keys: Span) -> Float[Array, "B G s K"]:
    return jax.lax.dynamic_slice_in_dim(array, keys.start, keys.size, axis=2)


def _add_to_keys(total: Float[Array, "B G S K"], part: Float[Array, "B G s K"], keys: Span) -> Float[Array, "B G S K"]:
    return jax.lax.dynamic_update_slice_in_dim(total, _keys_of(total, keys) + part, keys.start, axis=2)


def _starts(inputs: _Heads) -> Int[Array, " blocks"]:
    return jnp.arange(0, inputs.query.shape[3], BLOCK, dtype=jnp.int32)


def _in_a_row(blocks: Float[Array, "blocks B G R t ..."]) -> Float[Array, "B G R T ..."]:
    moved = jnp.moveaxis(blocks, 0, 3)
    return moved.reshape(*moved.shape[:3], -1, *moved.shape[5:])


def _whole_blocks(array: Array) -> Array:
    """Fills axis 1 up to a multiple of `BLOCK` with zeros."""
    missing = -array.shape[1] % BLOCK
    return jnp.pad(array, [(0, 0), (0, missing)] + [(0, 0)] * (array.ndim - 2)) if missing else array


def _whole_mask_inputs(mask_inputs: MaskInputs, batch: int, length: int, kv_length: int) -> MaskInputs:
    """MaskInputs of whole blocks: what was filled in belongs to no document."""
    if mask_inputs.segment_ids is None and not (length % BLOCK or kv_length % BLOCK):
        return mask_inputs
    if mask_inputs.segment_ids is None:
        ones = (jnp.ones((batch, size), jnp.int32) for size in (length, kv_length))
        mask_inputs = mask_inputs._replace(segment_ids=next(ones), kv_segment_ids=next(ones))
    return MaskInputs(*(None if array is None else _whole_blocks(array) for array in mask_inputs))
