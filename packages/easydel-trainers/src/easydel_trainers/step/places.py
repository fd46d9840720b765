"""Where the tokens of a micro-batch belong."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Int

from easydel_trainers.step.objective import Batch

_NAMES = ("segment_ids", "prefix_ids", "positions")


def places_of(batch: Batch) -> dict[str, Any]:
    """What `model.hidden` must know of where tokens belong."""
    return {name: batch[name] for name in _NAMES if name in batch}


def sequence_numbers(batch: Batch, *, count: int) -> Int[Array, "lines length"]:
    """The number of the sequence that each place belongs to, from 1; 0 = none, as in copies of shared prompts.

    Args:
        batch: as `GroupLayout` arranged it.
        count: sequences that it has room for.
    """
    numbers = batch["segment_ids"]
    return jnp.where(numbers <= count, numbers, 0)
