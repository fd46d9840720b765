"""What changes logits before a token is chosen from them: the repetition penalty, and stop tokens held back.

Axes: B rows, V vocabulary.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def penalise_repetition(
    logits: Float[Array, "B V"], present: Bool[Array, "B V"], penalty: float
) -> Float[Array, "B V"]:
    """Makes the tokens that a row already has less likely (penalty > 1) or likelier (< 1).

    A positive logit is divided by the penalty, a negative one multiplied. References: Keskar et al., CTRL, 2019,
    https://arxiv.org/abs/1909.05858, section 4.1, in the form transformers gave it.
    """
    processed = jnp.where(logits < 0, logits * penalty, logits / penalty)
    most = jnp.finfo(logits.dtype).max
    # An extreme penalty forbids or prefers a token; it does not make infinity.
    return jnp.where(present, jnp.clip(processed, -most, most), logits)


def hold_back(
    logits: Float[Array, "B V"], tokens: Int[Array, " tokens"], rows: Bool[Array, " B"]
) -> Float[Array, "B V"]:
    """Forbids ``tokens`` (those below 0 are no tokens) in the given rows, except where nothing else would be left."""
    vocab = logits.shape[1]
    listed = jnp.zeros(vocab, bool).at[jnp.where(tokens < 0, jnp.int32(vocab), tokens)].set(True, mode="drop")
    return jnp.where(rows[:, None] & listed[None] & ~listed.all(), -jnp.inf, logits)
