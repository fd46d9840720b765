"""Attention by the splash kernel that JAX ships for TPUs: documents, windows and soft-capping in O(length) memory.

Unverified on TPUs: run `python -m easydel_models.attention.check` there. Elsewhere its interpreter can be asked for,
which tests use: exact, and far too slow to train with.

References: Dao et al., FlashAttention, 2022, https://arxiv.org/abs/2205.14135.
"""

from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from easydel_models.attention.mask import MaskInputs, Rule

LANES = 128
"""Rows are filled up to a multiple of so many mask_inputs, the kernel's smallest block."""


def splash_attention(
    query: Float[Array, "B T H K"],
    key: Float[Array, "B T G K"],
    value: Float[Array, "B T G K"],
    rule: Rule,
    mask_inputs: MaskInputs,
    *,
    interpret: bool = False,
) -> Float[Array, "B T H K"]:
    """See `easydel_models.attention.attention`.

    Raises:
        ValueError: If positions are not in the order of the row, or a query sees two documents.
    """
    if mask_inputs.prefix_ids is not None:
        raise ValueError("'splash' attention shows a query no document but its own; take 'blocked'.")
    if not rule.in_row_order or rule.query_length != rule.kv_length:
        raise ValueError("'splash' attention knows no other positions than the order in the row; take 'blocked'.")
    batch, length, heads, head_dim = query.shape
    groups = key.shape[2]
    segments = jnp.ones((batch, length), jnp.int32) if mask_inputs.segment_ids is None else mask_inputs.segment_ids
    kernel = _kernel(rule, length + -length % LANES, heads // groups, interpret)
    scaled = _filled(query * jnp.asarray(rule.scale, query.dtype))
    key, value, filled_segments = _filled(key), _filled(value), _filled(segments)
    grouped = scaled.reshape(batch, -1, groups, heads // groups, head_dim)
    grouped = jnp.transpose(grouped, (0, 2, 3, 1, 4))
    over_groups = jax.vmap(kernel, in_axes=(0, 0, 0, None))
    mixed: Array = jax.vmap(over_groups)(grouped, key.swapaxes(1, 2), value.swapaxes(1, 2), filled_segments)
    mixed = jnp.transpose(mixed, (0, 3, 1, 2, 4)).reshape(batch, -1, heads, head_dim)[:, :length]
    # Padding is a document to the kernel, seen by itself alone.
    return jnp.where(segments[:, :, None, None] > 0, mixed, jnp.zeros((), mixed.dtype))


def _kernel(rule: Rule, length: int, heads: int, interpret: bool) -> Callable[..., Array]:
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    shape = (length, length)
    if not rule.causal:
        mask = masks.FullMask(shape)
    elif rule.window is None:
        mask = masks.CausalMask(shape)
    else:
        mask = masks.LocalMask(shape, window_size=(rule.window - 1, 0), offset=0)
    attend = kernels.make_splash_mqa_single_device(
        masks.MultiHeadMask([mask] * heads), attn_logits_soft_cap=rule.softcap, interpret=interpret
    )
    # Without residuals asked for it returns an array alone, which its type does not say.
    return lambda query, key, value, segments: cast(
        "Array", attend(query, key, value, segment_ids=kernels.SegmentIds(segments, segments))
    )


def _filled(array: Array) -> Array:
    missing = -array.shape[1] % LANES
    return jnp.pad(array, [(0, 0), (0, missing)] + [(0, 0)] * (array.ndim - 2)) if missing else array
