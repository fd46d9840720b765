"""Prompts as users give them, checked and brought to one form: an int32 array of token ids each."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Array

from easydel_models.config import DecoderConfig
from easydel_models.errors import OptionsError


def token_lists(
    prompts: Sequence[Sequence[int]] | np.ndarray | Array, attention_mask: np.ndarray | Array | None
) -> list[list[int]]:
    """Returns the tokens of every prompt, without padding.

    Raises:
        OptionsError: If the mask has another shape than the prompts.
    """
    if attention_mask is None:
        return [np.asarray(prompt).reshape(-1).tolist() for prompt in prompts]
    tokens, mask = np.asarray(prompts), np.asarray(attention_mask).astype(bool)
    if tokens.ndim != 2 or tokens.shape != mask.shape:
        raise OptionsError(
            f"`attention_mask` of shape {mask.shape} must have the shape of `prompts`, [rows, slots], "
            f"which is {tokens.shape}"
        )
    return [row[real].tolist() for row, real in zip(tokens, mask, strict=True)]


def checked_prompts(prompts: Sequence[Sequence[int]], config: DecoderConfig, max_new_tokens: int) -> list[np.ndarray]:
    """Returns the prompts as arrays.

    Raises:
        OptionsError: If one is empty, too long, or holds an unknown id; it is named by its number.
    """
    rows = [np.asarray(prompt).reshape(-1) for prompt in prompts]
    for number, row in enumerate(rows):
        if len(row) == 0:
            raise OptionsError(f"prompt {number} is empty; give it at least one token, the BOS token for instance")
        if len(row) + max_new_tokens > config.max_positions:
            raise OptionsError(
                f"prompt {number} has {len(row)} tokens; with max_new_tokens={max_new_tokens} that is more than the "
                f"{config.max_positions} positions of the model: shorten the prompt or lower max_new_tokens"
            )
        if row.min() < 0 or row.max() >= config.vocab_size:
            bad = int(row[(row < 0) | (row >= config.vocab_size)][0])
            raise OptionsError(f"prompt {number} holds the token {bad}, outside the vocabulary of {config.vocab_size}")
    # Cast only now: 2³² + 5 would have become the token 5.
    return [row.astype(np.int32) for row in rows]
