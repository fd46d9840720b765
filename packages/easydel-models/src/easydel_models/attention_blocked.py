"""Attention one block of queries at a time: memory of block * length scores, forward and backward.

The forward pass keeps, beside its result, one number per query and head: the logarithm of its softmax
denominator. From it the backward pass rebuilds the weights of one block at a time. Both are named
``"attention"`` for rematerialisation policies, so that recomputing a layer need not run its attention again.

Where causality follows the order in the row, keys beyond the diagonal or before the window are known before
the run and left out: half the work at long lengths. Blocks form a few groups, each with its own static range
of keys, so that the program stays small however long the row.

Axis letters: B batch, T query tokens, S key tokens, G key/value heads, R query heads per key/value head, K
head_dim, t and s the queries and keys of one block.

References: Dao et al., FlashAttention, 2022, https://arxiv.org/abs/2205.14135, appendix B (backward pass);
    Rabe & Staats, Self-attention Does Not Need O(n²) Memory, 2021, https://arxiv.org/abs/2112.05682.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Int

from easydel_models.attention_mask import Places, Rule, visible

BLOCK = 128
"""Queries per block; of 64 to 512 the fastest on CPU at 4 rows of 512 tokens with 9 heads."""
GROUPS = 8
"""Most groups of whole blocks, each compiled with its own range of keys."""


def blocked_attention(
    query: Float[Array, "B T H K"],
    key: Float[Array, "B S G K"],
    value: Float[Array, "B S G K"],
    rule: Rule,
    places: Places,
) -> Float[Array, "B T H K"]:
    """Attention in blocks of `BLOCK` queries; see `easydel_models.attention.attention`."""
    batch, length, heads, head_dim = query.shape
    groups = key.shape[2]
    grouped = query.reshape(batch, length, groups, heads // groups, head_dim)
    inputs = _Heads(grouped.transpose(0, 2, 3, 1, 4), key.swapaxes(1, 2), value.swapaxes(1, 2))
    mixed = _attend(rule, _groups(rule), inputs, places)
    return jnp.transpose(mixed, (0, 3, 1, 2, 4)).reshape(query.shape)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Group:
    """``count`` neighbouring blocks of ``size`` queries, from query ``start`` on, and the keys they may see."""

    start: int
    size: int
    count: int
    kv_start: int
    kv_stop: int

    @property
    def keys(self) -> slice:
        return slice(self.kv_start, self.kv_stop)


class _Heads(NamedTuple):
    query: Float[Array, "B G R T K"]
    key: Float[Array, "B G S K"]
    value: Float[Array, "B G S K"]


class _Rows(NamedTuple):
    """What the backward pass needs of each query."""

    query: Float[Array, "B G R t K"]
    d_mixed: Float[Array, "B G R t K"]
    normaliser: Float[Array, "B G R t"]
    """Logarithm of the softmax denominator."""
    delta: Float[Array, "B G R t"]
    """Inner product of the result and its gradient: the mean of the weights' gradients under the weights."""


def _mixed(rule: Rule, groups: tuple[_Group, ...], inputs: _Heads, places: Places) -> Float[Array, "B G R T K"]:
    return _attend_forward(rule, groups, inputs, places)[0]


def _attend_forward(rule, groups, inputs, places):
    parts = [_group_forward(rule, inputs, places, group) for group in groups]
    mixed = checkpoint_name(jnp.concatenate([part[0] for part in parts], axis=3), "attention")
    normaliser = checkpoint_name(jnp.concatenate([part[1] for part in parts], axis=3), "attention")
    return mixed, (inputs, places, mixed, normaliser)


def _attend_backward(rule, groups, kept, d_mixed):
    inputs, places, mixed, normaliser = kept
    key, value = inputs.key, inputs.value
    delta = jnp.sum(d_mixed.astype(jnp.float32) * mixed.astype(jnp.float32), axis=-1)
    rows = _Rows(inputs.query, d_mixed, normaliser, delta)
    d_queries = []
    d_key, d_value = jnp.zeros(key.shape, jnp.float32), jnp.zeros(value.shape, jnp.float32)
    for group in groups:
        d_query, d_keys, d_values = _group_backward(rule, inputs, places, rows, group)
        d_queries.append(d_query)
        d_key = d_key.at[:, :, group.keys].add(d_keys)
        d_value = d_value.at[:, :, group.keys].add(d_values)
    d_query = jnp.concatenate(d_queries, axis=3)
    return _Heads(d_query, d_key.astype(key.dtype), d_value.astype(value.dtype)), None


_attend = jax.custom_vjp(_mixed, nondiff_argnums=(0, 1))
_attend.defvjp(_attend_forward, _attend_backward)


def _groups(rule: Rule) -> tuple[_Group, ...]:
    whole, rest = divmod(rule.query_length, BLOCK)
    most = max(1, -(-whole // GROUPS))
    groups = [
        _group(rule, start=first * BLOCK, size=BLOCK, count=min(most, whole - first)) for first in range(0, whole, most)
    ]
    if rest:
        groups.append(_group(rule, start=whole * BLOCK, size=rest, count=1))
    return tuple(groups)


def _group(rule: Rule, *, start: int, size: int, count: int) -> _Group:
    keys = rule.key_range(start, start + size * count)
    return _Group(start=start, size=size, count=count, kv_start=keys.start, kv_stop=keys.stop)


def _group_forward(rule: Rule, inputs: _Heads, places: Places, group: _Group) -> tuple[Array, Array]:
    key, value = inputs.key[:, :, group.keys], inputs.value[:, :, group.keys]

    def block(start: int | Array) -> tuple[Array, Array]:
        mask = _block_mask(rule, places, start, group)
        return _block_forward(rule, _block_rows(inputs.query, start, group.size), key, value, mask)

    if group.count == 1:
        return block(group.start)
    mixed, normaliser = jax.lax.map(block, _starts(group))
    return _in_a_row(mixed), _in_a_row(normaliser)


def _group_backward(
    rule: Rule, inputs: _Heads, places: Places, rows: _Rows, group: _Group
) -> tuple[Array, Array, Array]:
    key, value = inputs.key[:, :, group.keys], inputs.value[:, :, group.keys]

    def block(sums: tuple[Array, Array], start: int | Array) -> tuple[tuple[Array, Array], Array]:
        of_block = _Rows(*(_block_rows(array, start, group.size) for array in rows))
        mask = _block_mask(rule, places, start, group)
        d_query, d_key, d_value = _block_backward(rule, of_block, key, value, mask)
        return (sums[0] + d_key, sums[1] + d_value), d_query

    zeros = jnp.zeros(key.shape, jnp.float32), jnp.zeros(value.shape, jnp.float32)
    if group.count == 1:
        (d_key, d_value), d_query = block(zeros, group.start)
        return d_query, d_key, d_value
    (d_key, d_value), d_queries = jax.lax.scan(block, zeros, _starts(group))
    return _in_a_row(d_queries), d_key, d_value


def _block_forward(
    rule: Rule,
    query: Float[Array, "B G R t K"],
    key: Float[Array, "B G s K"],
    value: Float[Array, "B G s K"],
    mask: Bool[Array, "#B 1 1 #t #s"],
) -> tuple[Float[Array, "B G R t K"], Float[Array, "B G R t"]]:
    scores = jnp.where(mask, _scores(rule, query, key), -jnp.inf)
    highest = scores.max(axis=-1)
    highest = jnp.where(jnp.isfinite(highest), highest, jnp.float32(0))  # a query that sees nothing
    powers = jnp.exp(scores - highest[..., None])
    total = powers.sum(axis=-1)
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
    d_weights = _rows_times(rows.d_mixed, value.swapaxes(2, 3))
    d_scores = weights * (d_weights - rows.delta[..., None]) * jnp.float32(rule.scale)
    if rule.softcap is not None:
        d_scores = d_scores * (1 - jnp.square(scores / jnp.float32(rule.softcap)))
    d_scores = d_scores.astype(rows.query.dtype)
    d_query = _rows_times(d_scores, key).astype(rows.query.dtype)
    d_value = _sum_over_rows(weights.astype(rows.d_mixed.dtype), rows.d_mixed)
    return d_query, _sum_over_rows(d_scores, rows.query), d_value


def _scores(rule: Rule, query: Float[Array, "B G R t K"], key: Float[Array, "B G s K"]) -> Float[Array, "B G R t s"]:
    scores = _rows_times(query, key.swapaxes(2, 3)) * jnp.float32(rule.scale)
    if rule.softcap is None:
        return scores
    return jnp.float32(rule.softcap) * jnp.tanh(scores / jnp.float32(rule.softcap))


# The query heads that share a key head are stacked as rows of one matrix, so keys and values are never
# repeated.
def _rows_times(rows: Float[Array, "B G R t in"], matrix: Float[Array, "B G in out"]) -> Float[Array, "B G R t out"]:
    batch, groups, repeats, size, width = rows.shape
    stacked = rows.reshape(batch, groups, repeats * size, width)
    product = jnp.matmul(stacked, matrix, preferred_element_type=jnp.float32)
    return product.reshape(batch, groups, repeats, size, matrix.shape[-1])


def _sum_over_rows(left: Float[Array, "B G R t s"], right: Float[Array, "B G R t K"]) -> Float[Array, "B G s K"]:
    return jnp.einsum("bgrts,bgrtk->bgsk", left, right, preferred_element_type=jnp.float32)


def _block_rows(array: Array, start: int | Int[Array, ""], size: int) -> Array:
    return jax.lax.dynamic_slice_in_dim(array, start, size, axis=3)


def _block_mask(rule: Rule, places: Places, start: int | Int[Array, ""], group: _Group) -> Array:
    return visible(rule, places, start, group.size, group.keys)[:, None, None]


def _starts(group: _Group) -> Int[Array, " blocks"]:
    return group.start + group.size * jnp.arange(group.count, dtype=jnp.int32)


def _in_a_row(blocks: Float[Array, "blocks B G R t ..."]) -> Float[Array, "B G R T ..."]:
    moved = jnp.moveaxis(blocks, 0, 3)
    return moved.reshape(*moved.shape[:3], -1, *moved.shape[5:])
