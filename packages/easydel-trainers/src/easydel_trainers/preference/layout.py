"""How rows of preferences become batches, and what transforms of them must know of lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from easydel_models.attention import honours_prefixes

from easydel_trainers.data.batch_rules import counting
from easydel_trainers.data.step_rows import SequenceLayout, StepRow
from easydel_trainers.preference.config import PreferenceConfig

MakeStepRows = Callable[[Sequence[Any]], Sequence[StepRow]]


def preference_layout(
    config: PreferenceConfig,
    tokenizer: Any,
    *,
    rows: int,
    sequences: int,
    to_step_rows: MakeStepRows,
    micro_batches: int = 1,
    parts: int = 1,
    complete: MakeStepRows | None = None,
) -> SequenceLayout:
    """Returns how the sequences of rows are arranged.

    Args:
        config: names padding, lengths and attention.
        tokenizer: knows a pad token, maybe.
        rows: the most of one micro-batch.
        sequences: of each row.
        to_step_rows: a step's transformed rows as step rows.
        micro_batches: how many there are.
        parts: devices that share the rows of a micro-batch.
        complete: adds to the step rows what only training needs.
    """
    return SequenceLayout(
        micro_batches=micro_batches,
        rows=rows,
        sequences=sequences,
        padding_free=config.padding_free,
        share_prompts=honours_prefixes(config.attention),
        parts=parts,
        to_step_rows=to_step_rows,
        complete=complete,
        buckets=config.length_buckets,
        multiple_of=config.pad_to_multiple_of,
        pad_token_id=_pad_token_id(config, tokenizer),
    )


def row_options(config: PreferenceConfig) -> dict[str, Any]:
    """Returns lengths, how to cut to them, and what to count, as the transforms take them."""
    return {
        **counting(config),
        "max_length": config.max_length,
        "max_prompt_length": config.max_prompt_length,
        "max_completion_length": config.max_completion_length,
        "keep_stop_token": config.keep_stop_token,
    }


def _pad_token_id(config: PreferenceConfig, tokenizer: Any) -> int:
    if config.padding_value is not None:
        return config.padding_value
    return getattr(tokenizer, "pad_token_id", None) or 0
