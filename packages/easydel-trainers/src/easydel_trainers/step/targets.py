"""What each position of a bin has to predict."""

from __future__ import annotations

import jax.numpy as jnp
from easydel_models.lm_loss import IGNORE_INDEX
from jaxtyping import Array, Int


def next_labels(labels: Int[Array, "*batch seq"]) -> Int[Array, "*batch seq"]:
    """Returns what each position predicts: the label after it; nothing at the end of a bin."""
    return of_next(labels, fill=IGNORE_INDEX)


def of_next(values: Int[Array, "*batch seq"], *, fill: int = 0) -> Int[Array, "*batch seq"]:
    """Returns what the position after each position holds; `fill` at the end of a bin."""
    end = jnp.full_like(values[..., :1], fill)
    return jnp.concatenate([values[..., 1:], end], axis=-1)


def trained_tokens(labels: Int[Array, "*batch seq"]) -> Int[Array, ""]:
    """Returns the number of labels that are trained."""
    return (next_labels(labels) != IGNORE_INDEX).sum()
