"""The score that a classifier gives every sequence of a micro-batch, wherever it lies."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from easydel_trainers.step.objective import Batch


def pooled_scores(model: Any, batch: Batch, *, sequences: int, **how: Any) -> Float[Array, "S R"]:
    """Returns the first label's score of every sequence; see `SequenceClassifier` for the token it is taken at.

    Args:
        model: a `SequenceClassifier`.
        batch: `input_ids` and `segment_ids` `[bins, length]`, as `SequenceLayout` arranged them, and `rows`.
        sequences: S, sequences of a row.
        how: further options of `model.hidden`.
    """
    return pooled(model, batch, model.hidden(batch["input_ids"], segment_ids=batch["segment_ids"], **how), sequences)


def pooled(model: Any, batch: Batch, hidden: Float[Array, "B T D"], sequences: int) -> Float[Array, "S R"]:
    """Returns the same of hidden states."""
    rows = batch["rows"]["real"].shape[-1]
    positions = _last_positions(batch, model.config.pad_token_id, count=sequences * rows)
    # Scored first and picked then, so that numbers travel between devices and not hidden states.
    score = model.score[0].astype(hidden.dtype)
    everywhere = jnp.einsum("btd,d->bt", hidden, score, preferred_element_type=jnp.float32)
    return everywhere.reshape(-1)[positions].reshape(sequences, rows)


def _last_positions(batch: Batch, pad_token_id: int | None, *, count: int) -> jax.Array:
    """Returns the last position of every sequence that does not hold the pad token, or its last one if all do."""
    segments, tokens = batch["segment_ids"].reshape(-1), batch["input_ids"].reshape(-1)
    positions = jnp.arange(len(tokens), dtype=jnp.int32)

    def last(wanted: jax.Array) -> jax.Array:
        numbers = jnp.where(wanted, positions, -1)
        return jax.ops.segment_max(numbers, segments, num_segments=1 + count)[1:]

    anywhere = last(jnp.ones_like(tokens, bool))
    if pad_token_id is not None:
        preferred = last(tokens != pad_token_id)
        anywhere = jnp.where(preferred >= 0, preferred, anywhere)
    # Positions without a sequence read any hidden state; nobody looks at their score.
    return jnp.maximum(anywhere, 0)
