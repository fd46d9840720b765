"""Rows of one optimizer step to arrays of one shape.

A step's rows become `[micro-batches, bins, length]` arrays. Padded, a bin is one row. Padding-free, a bin
holds several rows laid end to end, told apart by `segment_ids`, so that almost no position is empty; the loss and
its gradient are the same, because attention never crosses a segment and every row's first label is ignored.

Lengths come from a few buckets, so that a run compiles a handful of shapes and then never again.

Left out on purpose: rows are never split or dropped here, and which rows form a step is decided before.

>>> bucket_length(300)
320
>>> bucket_length(300, buckets=(128, 256))
512
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from easydel_transforms import IGNORE_INDEX

_SMALLEST = 64

Row = Mapping[str, Any]
Arrays = dict[str, Any]


class Layout(Protocol):
    """How the rows of a step become arrays."""

    def arrange(self, rows: Sequence[Row]) -> Arrays:
        """Returns arrays `[micro-batches, bins, length]`, among them `input_ids` and `segment_ids`."""
        ...

    def padded(self, rows: Sequence[Row]) -> Arrays:
        """Returns the same rows as a plain padded batch `[rows, length]`, for people to look at."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class StepLayout:
    """How the rows of a step are arranged.

    Attributes:
        micro_batches: arrays are split in so many equal parts, one after the other.
        rows: the most rows of one micro-batch.
        padding_free: whether bins hold several rows; then a micro-batch is `parts` bins.
        buckets: lengths that bins may have; `None` = quarter-octave steps from 64.
        multiple_of: lengths of bins are raised to a multiple of this.
        pad_left: whether the empty positions of a bin come first.
        pack_length: rows are packs of at most so many tokens; then there is one shape, and `buckets` is not asked.
        pad_token_id: what empty positions hold. Never looked at, since their segment is 0.
        parts: devices that share the bins of a micro-batch; their number is a multiple of it.
    """

    micro_batches: int
    rows: int
    padding_free: bool
    buckets: Sequence[int] | None = None
    multiple_of: int | None = None
    pad_left: bool = False
    pack_length: int | None = None
    pad_token_id: int = 0
    parts: int = 1

    def arrange(self, rows: Sequence[Row]) -> Arrays:
        """Arranges one step's rows.

        Args:
            rows: at most `micro_batches * rows` rows of `input_ids [L]` and `labels [L]`, and of `segment_ids [L]`
                where a row is a pack; fewer in the last step of a run, whose positions stay empty.

        Returns:
            int32 arrays `[micro_batches, bins or parts, length]`: `input_ids`, `labels` (-100 = not trained,
            which every document's first token is) and `segment_ids` (0 = empty, 1… = document of the bin).
        """
        bins = self._balanced(rows) if self.padding_free else self._one_per_bin(rows)
        length = self._length(bins)
        arrays = _blank(len(bins), length, self.pad_token_id)
        for number, held in enumerate(bins):
            _write_bin(arrays, number, held, pad_left=self.pad_left)
        return {name: array.reshape(self.micro_batches, -1, length) for name, array in arrays.items()}

    def padded(self, rows: Sequence[Row]) -> Arrays:
        """Returns the same rows as a plain padded batch, for people to look at.

        Returns:
            `input_ids`, `attention_mask` and `labels`, each int32 `[rows, length]`.
        """
        layout = replace(self, micro_batches=1, rows=len(rows), padding_free=False, parts=1)
        return without_segments(layout.arrange(rows))

    def _length(self, bins: Sequence[Sequence[Row]]) -> int:
        if self.pack_length is not None:
            full = self.pack_length * (-(-self.rows // self.parts) if self.padding_free else 1)
            return bucket_length(full, buckets=(full,), multiple_of=self.multiple_of)
        longest = max(sum(len(row["input_ids"]) for row in held) for held in bins)
        return bucket_length(longest, buckets=self.buckets, multiple_of=self.multiple_of)

    def _one_per_bin(self, rows: Sequence[Row]) -> list[list[Row]]:
        empty = -self.rows % self.parts
        bins = [[row] for row in rows] + [[]] * (self.micro_batches * self.rows - len(rows))
        starts = range(0, len(bins), self.rows)
        return [held for start in starts for held in (*bins[start : start + self.rows], *([[]] * empty))]

    def _balanced(self, rows: Sequence[Row]) -> list[list[Row]]:
        """Longest first into the emptiest bin: no bin is longer than 4/3 of the best possible."""
        count = self.micro_batches * self.parts
        if self.pack_length is not None:
            # Packs are all about full: equal numbers of them always fit, whatever their lengths.
            return [list(rows[number::count]) for number in range(count)]
        bins: list[list[Row]] = [[] for _ in range(count)]
        loads = [0] * count
        for row in sorted(rows, key=lambda row: -len(row["input_ids"])):
            emptiest = loads.index(min(loads))
            bins[emptiest].append(row)
            loads[emptiest] += len(row["input_ids"])
        return bins


def arrange_by_budget(
    rows: Sequence[Row], make_layout: Callable[[int, int], Layout], *, rows_per_step: int, budget: int
) -> Arrays:
    """Arranges a step's rows into the fewest micro-batches, a power of two of them, that fit a budget.

    Powers of two, so that a run compiles few shapes. A row that alone exceeds the budget is a micro-batch of its
    own.

    Args:
        rows: one step's.
        make_layout: from rows per micro-batch and number of micro-batches.
        rows_per_step: the step's full number of rows, which `rows` of the last step may fall short of.
        budget: positions of one micro-batch, empty ones included.
    """
    micro_batches = 1
    while True:
        layout = make_layout(math.ceil(rows_per_step / micro_batches), micro_batches)
        arrays = layout.arrange(rows)
        size = arrays["input_ids"].size // micro_batches
        if size <= budget or micro_batches >= rows_per_step:
            return arrays
        micro_batches = min(2 * micro_batches, rows_per_step)


def without_segments(arrays: Arrays) -> Arrays:
    """Returns the first micro-batch, with an attention mask in place of segments."""
    first = {name: array[0] for name, array in arrays.items()}
    return {**first, "attention_mask": (first.pop("segment_ids") > 0).astype(np.int32)}


def bucket_length(longest: int, *, buckets: Sequence[int] | None = None, multiple_of: int | None = None) -> int:
    """Returns the shortest allowed length that holds `longest` tokens.

    Without buckets: 64, 80, 96, 112, 128, 160, … (four steps an octave, at most a fifth of a bin empty).
    Beyond the last bucket: multiples of it. The result is raised to a multiple of `multiple_of`.
    """
    if multiple_of is not None:
        return -(-bucket_length(longest, buckets=buckets) // multiple_of) * multiple_of
    if buckets is None:
        octave = _SMALLEST
        while 2 * octave < longest:
            octave *= 2
        return next(octave * part // 4 for part in (4, 5, 6, 7, 8) if octave * part // 4 >= longest)
    last = buckets[-1]
    return next((step for step in buckets if step >= longest), -(-longest // last) * last)


def _blank(bins: int, length: int, pad_token_id: int) -> Arrays:
    return {
        "input_ids": np.full((bins, length), pad_token_id, np.int32),
        "labels": np.full((bins, length), IGNORE_INDEX, np.int32),
        "segment_ids": np.zeros((bins, length), np.int32),
    }


def _write_bin(arrays: Arrays, number: int, rows: Sequence[Row], *, pad_left: bool) -> None:
    tokens = sum(len(row["input_ids"]) for row in rows)
    start, before = arrays["input_ids"].shape[1] - tokens if pad_left else 0, 0
    for row in rows:
        end = start + len(row["input_ids"])
        segments = np.asarray(row["segment_ids"]) if "segment_ids" in row else np.ones(end - start, np.int32)
        arrays["input_ids"][number, start:end] = row["input_ids"]
        arrays["labels"][number, start:end] = np.where(np.diff(segments, prepend=0) != 0, IGNORE_INDEX, row["labels"])
        arrays["segment_ids"][number, start:end] = np.where(segments > 0, before + segments, 0)
        start, before = end, before + int(segments.max(initial=0))
