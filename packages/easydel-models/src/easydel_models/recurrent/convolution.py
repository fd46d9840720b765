"""A causal convolution over the last few tokens, every channel for itself, that begins anew in every document.

Axis letters: B batch, T tokens, D channels, W taps: a token sees itself and the W - 1 before it.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from easydel_models.recurrent.documents import Documents


def short_convolution(
    x: Float[Array, "B T D"],
    kernel: Float[Array, "W D"],
    bias: Float[Array, " D"] | None,
    *,
    documents: Documents,
    state: Float[Array, "B V D"],
) -> tuple[Float[Array, "B T D"], Float[Array, "B V D"]]:
    """``y[t] = bias + sum_w kernel[w] x[t - W + 1 + w]``, over the tokens of t's own document.

    Args:
        x: Inputs.
        kernel: The last tap is the token's own.
        bias: Added to every token, or None.
        documents: Of the tokens. Padding counts as zeros and is passed over by the state returned; it has to lie before
            a document or behind it.
        state: The V = W - 1 inputs before the first token, of the document ``documents.before``.

    Returns:
        The outputs in the dtype of ``x``, and the last V inputs of the row's last document.
    """
    taps, length = kernel.shape[0], x.shape[1]
    x = jnp.where(documents.real[..., None], x, jnp.zeros((), x.dtype))
    inputs = jnp.concatenate([state.astype(x.dtype), x], axis=1)
    before = jnp.broadcast_to(documents.before[:, None], state.shape[:2])
    ids = jnp.concatenate([before, documents.ids], axis=1)
    result = jnp.zeros(x.shape, jnp.float32) if bias is None else jnp.broadcast_to(bias.astype(jnp.float32), x.shape)
    for tap in range(taps):
        same = (ids[:, tap : tap + length] == documents.ids)[..., None]
        term = inputs[:, tap : tap + length].astype(jnp.float32) * kernel[tap].astype(jnp.float32)[None, None]
        result = result + jnp.where(same, term, jnp.float32(0))
    return result.astype(x.dtype), _last_inputs(inputs, ids, documents.real, taps - 1).astype(state.dtype)


def _last_inputs(inputs: Array, ids: Array, real: Array, kept: int) -> Array:
    """Returns the inputs up to the last real token; those of an earlier document are zeros."""
    numbers = jnp.arange(1, real.shape[1] + 1, dtype=jnp.int32)[None]
    behind = jnp.where(real, numbers, jnp.int32(0)).max(axis=1)  # tokens up to the last real one; 0 = none is
    where = behind[:, None] + jnp.arange(kept, dtype=jnp.int32)[None]
    held = jnp.take_along_axis(inputs, where[..., None], axis=1)
    same = jnp.take_along_axis(ids, where, axis=1) == ids[:, -1:]
    return jnp.where(same[..., None], held, jnp.zeros((), held.dtype))
