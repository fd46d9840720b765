"""A prompt and a completion as one sequence of tokens, and rows of preferences made of such."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from easydel_transforms import IGNORE_INDEX

from easydel_trainers.data.step_rows import COMPLETION, PROMPT, TAIL, StepRow

PairRow = Mapping[str, Any]


def pair_step_rows(rows: Sequence[PairRow], *, train_prompt: bool = False) -> list[StepRow]:
    """Returns rows of `prompt_ids`, `chosen_ids`, `rejected_ids` (and perhaps `margin`) as step rows (chosen,
    rejected).

    Args:
        rows: a step's.
        train_prompt: whether the prompt's tokens are labels too, before the chosen answer.
    """
    return [_pair_step_row(row, train_prompt) for row in rows]


def completion_sequence(
    prompt_ids: Any, completion_ids: Any, *, shared: int | None = None, train_prompt: bool = False
) -> dict[str, np.ndarray]:
    """Returns one sequence: `input_ids`, `labels` and `part`, int32 `[prompt + completion]` each.

    Args:
        prompt_ids: tokens before the completion. The first token of all is never a label: nothing comes before it.
        completion_ids: what is scored.
        shared: length of the shorter completion of the pair; `None` = there is no pair.
        train_prompt: whether prompt tokens are labels too.
    """
    prompt, completion = np.asarray(prompt_ids, np.int32), np.asarray(completion_ids, np.int32)
    input_ids = np.concatenate([prompt, completion])
    part = np.full(len(input_ids), COMPLETION, np.int32)
    part[: len(prompt)] = PROMPT
    if shared is not None:
        part[len(prompt) + shared :] = TAIL
    part[:1] = PROMPT
    labels = np.where((part == PROMPT) & (not train_prompt), IGNORE_INDEX, input_ids).astype(np.int32)
    labels[:1] = IGNORE_INDEX
    return {"input_ids": input_ids, "labels": labels, "part": part}


def shareable(prompt_ids: Any) -> int:
    """Returns how many of a prompt's tokens sequences may share: all but the last, which predicts their first one."""
    return max(len(prompt_ids) - 1, 0)


def _pair_step_row(row: PairRow, train_prompt: bool) -> StepRow:
    prompt, chosen, rejected = row["prompt_ids"], row["chosen_ids"], row["rejected_ids"]
    shared, margin = min(len(chosen), len(rejected)), row.get("margin")
    return StepRow(
        sequences=(
            completion_sequence(prompt, chosen, shared=shared, train_prompt=train_prompt),
            completion_sequence(prompt, rejected, shared=shared),
        ),
        values={"margin": 0.0 if margin is None else float(margin)},
        prompt=0 if train_prompt else shareable(prompt),
    )
