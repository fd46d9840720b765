"""Losses and log-probabilities of a language-model head that never builds [tokens x vocabulary].

Logits are the largest array of a small language model: 2048 tokens of a 49 152-word vocabulary take 400 MB,
three times over in a plain backward pass. Both functions work through the tokens in chunks instead, and only
through the tokens that are trained: ignored ones (label -100) are compacted away first and the chunk loop
stops at their count. The count is a traced loop bound, so a batch with another mask runs the same compiled
program.

- `fused_linear_ce` returns one sum. It computes its gradients while the logits of a chunk are at hand.
- `token_logps` returns one number per token, for losses that combine them later. It keeps the log-normaliser
  of every token and recomputes a chunk's logits when the backward pass asks for them. `token_stats` is the same with
  everything else that the logits tell.

Nothing is averaged: sums and counts come back, so that a step can be split over micro-batches and devices.
On a mesh (`easydel_models.mesh`) every device works through its own tokens, against its own part of the vocabulary.

    >>> import jax.numpy as jnp
    >>> hidden, head = jnp.eye(3, 2), jnp.zeros((4, 2))
    >>> loss_sum, stats = fused_linear_ce(hidden, head, jnp.array([1, -100, 3]))
    >>> round(float(loss_sum), 4), int(stats.count)  # two tokens, log(4) each
    (2.7726, 2)
"""

from easydel_models.lm_loss.chunks import IGNORE_INDEX as IGNORE_INDEX
from easydel_models.lm_loss.head import LinearHead as LinearHead
from easydel_models.lm_loss.label_logps import TokenStats as TokenStats
from easydel_models.lm_loss.label_logps import token_logps as token_logps
from easydel_models.lm_loss.label_logps import token_stats as token_stats
from easydel_models.lm_loss.linear_ce import CEStats as CEStats
from easydel_models.lm_loss.linear_ce import LossType as LossType
from easydel_models.lm_loss.linear_ce import fused_linear_ce as fused_linear_ce

__all__ = [
    "IGNORE_INDEX",
    "CEStats",
    "LinearHead",
    "LossType",
    "TokenStats",
    "fused_linear_ce",
    "token_logps",
    "token_stats",
]
