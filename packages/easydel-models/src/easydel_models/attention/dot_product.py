"""Attention by `jax.nn.dot_product_attention`: its XLA form anywhere, cuDNN's kernel on NVIDIA GPUs.

Without documents or padding the kernel is told causality and window, and needs no mask. With them it is given a whole
mask, of length² entries for every row; long packed rows are better off with ``blocked``.

Unverified on GPUs: run `python -m easydel_models.attention.check` there.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from easydel_models.attention.mask import MaskInputs, Rule, Span, visible


def dot_product_attention(
    query: Float[Array, "B T H K"],
    key: Float[Array, "B S G K"],
    value: Float[Array, "B S G K"],
    rule: Rule,
    mask_inputs: MaskInputs,
    *,
    kernel: Literal["xla", "cudnn"],
) -> Float[Array, "B T H K"]:
    """See `easydel_models.attention.attention`.

    Raises:
        ValueError: If the scores are to be bounded, or cuDNN is given float32.
    """
    if rule.softcap is not None:
        raise ValueError(f"`softcap` is {rule.softcap}, which {kernel!r} attention cannot do; take 'blocked'.")
    if kernel == "cudnn" and query.dtype not in (jnp.bfloat16, jnp.float16):
        raise ValueError(f"'cudnn' attention takes bfloat16 or float16; found {query.dtype}. Set dtype='bfloat16'.")
    masked = mask_inputs.segment_ids is not None or mask_inputs.positions is not None
    mixed = jax.nn.dot_product_attention(
        query,
        key,
        value,
        mask=_whole_mask(rule, mask_inputs) if masked else None,
        is_causal=rule.causal and not masked,
        local_window_size=None if masked or rule.window is None else (rule.window - 1, 0),
        scale=rule.scale,
        implementation=kernel,
    )
    if mask_inputs.segment_ids is None:
        return mixed
    return jnp.where(mask_inputs.segment_ids[:, :, None, None] > 0, mixed, jnp.zeros((), mixed.dtype))


def _whole_mask(rule: Rule, mask_inputs: MaskInputs) -> Array:
    """Returns what sees what: ``[B, 1, T, S]``."""
    seen = visible(rule, mask_inputs, Span(0, rule.query_length), Span(0, rule.kv_length))
    if mask_inputs.segment_ids is not None:
        # Padding sees something, or its softmax would be 0 / 0; what it gets is dropped.
        seen = seen | (mask_inputs.segment_ids == 0)[:, :, None]
    return jnp.broadcast_to(seen, (seen.shape[0], rule.query_length, rule.kv_length))[:, None]
