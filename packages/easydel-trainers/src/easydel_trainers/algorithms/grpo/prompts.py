"""Prompts of the data: read for one rollout after the other, and shown as people look at them."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from easydel_trainers.data.epochs import EpochRows
from easydel_trainers.data.layout import Arrays, Row
from easydel_trainers.data.step_rows import SequenceLayout

_NOT_COLUMNS = frozenset({"prompt", "prompt_ids", "completion", "completion_ids"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompts:
    """The prompts of a rollout, and where they lie in the data.

    Attributes:
        rows: transformed rows: `prompt`, `prompt_ids`, and every other column.
        number: of the rollout, from 1.
        epoch: that the last of them belongs to.
        position: before them.
    """

    rows: Sequence[Row]
    number: int
    epoch: int
    position: dict[str, Any] | None


@final
class PromptReader:
    """Reads the prompts of one rollout after the other.

    Args:
        rows: transformed, in order.
        prompts: of one rollout.
        done: rollouts that lie before `rows`.
        skip: numbers of rollouts whose prompts are read and left out.
    """

    def __init__(self, rows: EpochRows, *, prompts: int, done: int = 0, skip: Collection[int] = ()):
        self._rows, self._prompts, self._done, self._skip = rows, prompts, done, frozenset(skip)

    def __call__(self) -> Prompts | None:
        """Returns the next ones; `None` = the data ended."""
        while True:
            position = self._rows.state()
            rows = list(itertools.islice(self._rows, self._prompts))
            if not rows:
                return None
            self._done += 1
            if self._done not in self._skip:
                return Prompts(rows=rows, number=self._done, epoch=self._rows.epoch, position=position)

    def state(self) -> dict[str, Any]:
        """Returns the position behind the prompts that were read last."""
        return self._rows.state()


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class PromptLayout:
    """Lays out completions for a step, and prompts for people's eyes.

    Attributes:
        completions: how completions are arranged.
        times: how often each prompt is answered.
    """

    completions: SequenceLayout
    times: int

    def arrange(self, rows: Sequence[Any]) -> Arrays:
        """Returns completions, which are step rows, as `SequenceLayout` arranges them."""
        return self.completions.arrange_step_rows(rows)

    def padded(self, rows: Sequence[Row]) -> Arrays:
        """Returns rows of prompts, padded on the left: `input_ids` and `attention_mask`, int32 `[rows * times,
        length]`.

        The copies of a prompt lie next to each other.
        """
        prompts = [row["prompt_ids"] for row in rows]
        length = max(len(prompt) for prompt in prompts)
        ids = np.zeros((len(prompts), length), np.int32)
        mask = np.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, length - len(prompt) :] = prompt
            mask[row, length - len(prompt) :] = 1
        return {"input_ids": np.repeat(ids, self.times, axis=0), "attention_mask": np.repeat(mask, self.times, axis=0)}


def columns_of(rows: Iterable[Row]) -> frozenset[str]:
    """Returns the columns of prompts that reward functions may ask for."""
    return frozenset(name for row in rows for name in row if name not in _NOT_COLUMNS)
