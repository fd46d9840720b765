"""Which document every token of a row belongs to, as a layer with a running state has to know it.

Padding neither begins a document nor ends one: it belongs to what was read before it, and leaves the state alone.

Axis letters: B batch, T tokens.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


class Documents(NamedTuple):
    """The documents of some tokens that may go on from what was read before."""

    ids: Int[Array, "B T"]
    """Segment id of every token; padding has that of the last real token before it."""
    real: Bool[Array, "B T"]
    """Whether it is a token rather than padding."""
    before: Int[Array, " B"]
    """Segment id of what was read before these tokens; 0 = nothing was."""


def running_documents(segment_ids: Int[Array, "B T"], before: Int[Array, " B"]) -> Documents:
    """Returns the documents of tokens whose segment ids are 0 = padding, 1 and up = document.

    Args:
        segment_ids: Of these tokens.
        before: See `Documents`.
    """
    before = before.astype(jnp.int32)
    ids = jnp.concatenate([before[:, None], segment_ids.astype(jnp.int32)], axis=1)
    numbers = jnp.broadcast_to(jnp.arange(ids.shape[1], dtype=jnp.int32)[None], ids.shape)
    last_real = jax.lax.cummax(jnp.where(ids > 0, numbers, jnp.int32(0)), axis=1)
    return Documents(jnp.take_along_axis(ids, last_real, axis=1)[:, 1:], segment_ids > 0, before)


def one_token_further(rows: int) -> Documents:
    """Returns the documents of one more token of every row, each going on with what its row had read."""
    ids = jnp.ones((rows, 1), jnp.int32)
    return Documents(ids, ids > 0, ids[:, 0])
