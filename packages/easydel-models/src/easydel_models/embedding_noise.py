"""Noise on embeddings, which training may add so that a model learns answers rather than their wording (NEFTune).

Axis letters: B batch, T tokens, D dim.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class EmbeddingNoise(NamedTuple):
    """How much noise, and which."""

    key: Array
    """Random key."""
    alpha: float
    """Size: the noise of a document has a norm of about ``alpha / sqrt(3)``, however long the document."""


def add_noise(
    x: Float[Array, "B T D"], noise: EmbeddingNoise, positions: Int[Array, "B T"], to_end: Int[Array, "B T"]
) -> Float[Array, "B T D"]:
    """Returns ``x + u``, u uniform in ``±alpha / sqrt(L D)``, L the tokens of a token's own document.

    Args:
        x: Embeddings.
        noise: Key and size.
        positions: Place of every token in its document, from 0.
        to_end: Tokens that follow it in its document.

    References: Jain et al., NEFTune: Noisy Embeddings Improve Instruction Finetuning, 2023,
        https://arxiv.org/abs/2310.05914, algorithm 1.
    """
    lengths = (positions + to_end + 1).astype(jnp.float32)
    bound = noise.alpha * jax.lax.rsqrt(lengths * jnp.float32(x.shape[-1]))
    uniform = jax.random.uniform(noise.key, x.shape, jnp.float32, minval=-1, maxval=1)
    return x + (uniform * bound[..., None]).astype(x.dtype)
