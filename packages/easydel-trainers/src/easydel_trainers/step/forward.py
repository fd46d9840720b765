"""How a micro-batch goes through the model: where its tokens belong, and what the config says of the pass."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Int

from easydel_trainers.config import TrainerConfig
from easydel_trainers.step.objective import Batch

_NAMES = ("segment_ids", "prefix_ids", "positions")


def training_pass(config: TrainerConfig, batch: Batch) -> dict[str, Any]:
    """Returns options of `model.hidden` for a pass that gradients go back through."""
    return {
        **scoring_pass(config),
        "remat": config.gradient_checkpointing,
        "neftune_alpha": config.neftune_alpha,
        "dropout_key": batch.get("dropout_key"),
    }


def scoring_pass(config: TrainerConfig) -> dict[str, Any]:
    """Returns options of `model.hidden` for a pass that only looks."""
    return {"longest_segment": config.max_length, "implementation": config.attention}


def segments_of(batch: Batch) -> dict[str, Any]:
    """Returns what `model.hidden` must know of where tokens belong."""
    return {name: batch[name] for name in _NAMES if name in batch}


def sequence_numbers(batch: Batch, *, count: int) -> Int[Array, "bins length"]:
    """Returns the number of the sequence that each position belongs to, from 1; 0 = none, as in copies of shared
    prompts.

    Args:
        batch: as `SequenceLayout` arranged it.
        count: sequences that it has room for.
    """
    numbers = batch["segment_ids"]
    return jnp.where(numbers <= count, numbers, 0)
