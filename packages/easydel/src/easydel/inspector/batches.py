"""The first batches, arranged as a step would get them: which row lies where, and how many positions hold a token."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from easydel_transforms import IGNORE_INDEX

if TYPE_CHECKING:
    from easydel_trainers.data.training_data import TrainingData


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a bin: the tokens of one sequence, or the empty positions at the end.

    Attributes:
        tokens: how many.
        trained: how many of them are trained.
        empty: whether nothing lies there.
    """

    tokens: int
    trained: int
    empty: bool


@dataclass(frozen=True, slots=True)
class ArrangedBatch:
    """One step's arrays.

    Attributes:
        number: of the step, from 1.
        shape: `[micro-batches, bins, length]`.
        bins: every bin's segments, of all micro-batches one after the other.
    """

    number: int
    shape: tuple[int, ...]
    bins: tuple[tuple[Segment, ...], ...]

    @property
    def positions(self) -> int:
        """Positions in all."""
        return int(np.prod(self.shape))

    @property
    def tokens(self) -> int:
        """Positions that hold a token."""
        return sum(segment.tokens for segments in self.bins for segment in segments if not segment.empty)

    @property
    def fill(self) -> float:
        """Share of the positions that hold a token."""
        return self.tokens / self.positions


def arranged_batches(data: TrainingData, count: int) -> tuple[ArrangedBatch, ...]:
    """Returns the first batches of a training, by its own reading and arranging."""
    rows = data.in_order(data.transform)
    size = data.config.total_batch_size
    batches = []
    for number in range(1, count + 1):
        of_step = list(itertools.islice(rows, size))
        if not of_step:
            break
        batches.append(_arranged(number, data.arrange(of_step)))
    return tuple(batches)


def _arranged(number: int, arrays: dict[str, Any]) -> ArrangedBatch:
    shape = arrays["input_ids"].shape
    segments = arrays["segment_ids"].reshape(-1, shape[-1])
    labels = arrays.get("labels")
    trained = np.zeros_like(segments, bool) if labels is None else (labels != IGNORE_INDEX).reshape(segments.shape)
    bins = tuple(_segments(numbers, mask) for numbers, mask in zip(segments, trained, strict=True))
    return ArrangedBatch(number, tuple(map(int, shape)), bins)


def _segments(numbers: Any, trained: Any) -> tuple[Segment, ...]:
    borders = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    return tuple(
        Segment(end - start, int(trained[start:end].sum()), bool(numbers[start] == 0))
        for start, end in itertools.pairwise(borders)
    )
