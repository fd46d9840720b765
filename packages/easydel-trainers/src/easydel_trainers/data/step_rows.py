"""Rows of several sequences (a pair's two answers, say) to arrays of one shape.

Every sequence of a micro-batch has a number, and its tokens carry that number as their segment: first the first
sequences of all rows, then the second ones, and so on, whether or not a row is there. So per-sequence sums are one
`segment_sum`, and it does not matter in which bin a sequence lies. A row's sequences always share a micro-batch.
Copies of prompts that sequences share (see `bins`) have the numbers behind those of all sequences.

>>> pair = StepRow(sequences=({"input_ids": [5, 6]}, {"input_ids": [5, 7]}), values={"margin": 0.5})
>>> layout = SequenceLayout(micro_batches=1, rows=1, sequences=2, padding_free=True, to_step_rows=list, buckets=(5,))
>>> arrays = layout.arrange([pair])
>>> arrays["segment_ids"].tolist(), arrays["rows"]["margin"].tolist()
([[[1, 1, 2, 2, 0]]], [[0.5]])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from easydel_transforms import IGNORE_INDEX

from easydel_trainers.data.bins import Bin, Piece, Tokens, spread
from easydel_trainers.data.layout import Arrays, Row, bucket_length, without_segments

PROMPT, COMPLETION, TAIL = 0, 1, 2
"""Parts of a sequence, as its array `part` has them; the tail of a completion is what reaches beyond the length of the
shorter completion of its pair."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRow:
    """One row, as a step sees it.

    Attributes:
        sequences: per-token arrays of equal length by name, `input_ids` among them; all step rows of a run have equally
            many sequences with equal names.
        values: what is said of the row as a whole: a number, or one number for each sequence.
        prompt: how many of each sequence's first tokens may be shared with others that begin with the same: tokens
            that neither are labels nor predict one.
    """

    sequences: tuple[Tokens, ...]
    values: Mapping[str, Any]
    prompt: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class SequenceLayout:
    """How the rows of a step are arranged.

    Attributes:
        micro_batches: arrays are split in so many equal parts, one after the other.
        rows: the most rows of one micro-batch.
        sequences: sequences of each row.
        padding_free: whether bins hold several sequences; then a micro-batch is `parts` bins.
        share_prompts: whether a bin holds equal prompts once. Only where it holds several sequences.
        to_step_rows: a step's rows as step rows, in their order.
        complete: adds to the step rows what only training needs; not called for people's eyes.
        buckets: lengths that bins may have; `None` = quarter-octave steps from 64.
        multiple_of: lengths of bins are raised to a multiple of this.
        pad_token_id: what empty positions hold. Never looked at, since their segment is 0.
        parts: devices that share the bins of a micro-batch; their number is a multiple of it.
    """

    micro_batches: int
    rows: int
    sequences: int
    padding_free: bool
    to_step_rows: Callable[[Sequence[Any]], Sequence[StepRow]]
    share_prompts: bool = False
    complete: Callable[[Sequence[StepRow]], Sequence[StepRow]] | None = None
    buckets: Sequence[int] | None = None
    multiple_of: int | None = None
    pad_token_id: int = 0
    parts: int = 1

    def arrange(self, rows: Sequence[Row], *, at_least: int = 1) -> Arrays:
        """Arranges one step's rows.

        Args:
            rows: at most `micro_batches * rows` of them; fewer in the last step of a run.
            at_least: bins shall be at least so long.

        Returns:
            Arrays `[micro_batches, bins, length]` of tokens, int32 or float32: `input_ids`, `segment_ids` (0 =
            empty) and what else the sequences have (0 where empty; `labels`: -100); where prompts are shared also
            `prefix_ids` (number of the prompt's copy that a token sees; 0 = none) and `positions`. Under `rows`,
            float32 arrays: `real` `[micro_batches, rows]` (1 = there is a row) and the step_rows' values,
            `[micro_batches, rows]` or `[micro_batches, sequences, rows]`.
        """
        step_rows = self.to_step_rows(rows)
        step_rows = step_rows if self.complete is None else self.complete(step_rows)
        return self.arrange_step_rows(step_rows, at_least=at_least)

    def arrange_step_rows(self, step_rows: Sequence[StepRow], *, at_least: int = 1) -> Arrays:
        """Returns the same for rows that are step rows already.

        Args:
            step_rows: the rows.
            at_least: bins shall be at least so long.
        """
        shares = self._balanced(step_rows) if self.padding_free else self._in_order(step_rows)
        bins = [filled for share in shares for filled in self._bins(share)]
        longest = max(at_least, *(filled.positions for filled in bins))
        shape = (len(bins), bucket_length(longest, buckets=self.buckets, multiple_of=self.multiple_of))
        arrays = _blank(step_rows[0].sequences[0], shape, self.pad_token_id, shared=self._shares)
        for number, filled in enumerate(bins):
            _write_bin({name: array[number] for name, array in arrays.items()}, filled, 1 + self.sequences * self.rows)
        split = (self.micro_batches, len(bins) // self.micro_batches, shape[1])
        tokens = {name: array.reshape(split) for name, array in arrays.items()}
        return {**tokens, "rows": self._row_arrays(shares, step_rows[0].values)}

    def padded(self, rows: Sequence[Row]) -> Arrays:
        """Returns the same rows as a plain padded batch, for people to look at: all first sequences, all second ones, …

        Returns:
            Arrays `[sequences * rows, length]`: `input_ids`, `attention_mask`, what else the sequences have, and
            `completion_mask` in span of `part`.
        """
        layout = replace(self, micro_batches=1, rows=len(rows), padding_free=False, complete=None, parts=1)
        arrays = layout.arrange(rows)
        shown = without_segments({name: array for name, array in arrays.items() if isinstance(array, np.ndarray)})
        part = shown.pop("part", None)
        return shown if part is None else {**shown, "completion_mask": (part != PROMPT).astype(np.int32)}

    def _in_order(self, step_rows: Sequence[StepRow]) -> list[list[StepRow]]:
        starts = range(0, self.micro_batches * self.rows, self.rows)
        return [list(step_rows[start : start + self.rows]) for start in starts]

    def _balanced(self, step_rows: Sequence[StepRow]) -> list[list[StepRow]]:
        pieces = [Piece(step_row.sequences, self._prompt(step_row)) for step_row in step_rows]
        chosen = spread(pieces, count=self.micro_batches, most=self.rows)
        return [[step_rows[index] for index in indices] for indices in chosen]

    def _bins(self, share: Sequence[StepRow]) -> list[Bin]:
        """Returns the sequences of one micro-batch, numbered and laid out."""
        numbered = [
            (1 + kind * self.rows + row, Piece((step_row.sequences[kind],), self._prompt(step_row)))
            for kind in range(self.sequences)
            for row, step_row in enumerate(share)
        ]
        if self.padding_free:
            chosen = spread([piece for _, piece in numbered], count=self.parts)
            bin_of = {index: number for number, indices in enumerate(chosen) for index in indices}
            bins = [Bin() for _ in chosen]
        else:
            bin_of = {index: number - 1 for index, (number, _) in enumerate(numbered)}
            count = self.sequences * self.rows
            bins = [Bin() for _ in range(count + -count % self.parts)]
        for index, (number, piece) in enumerate(numbered):
            bins[bin_of[index]].add(number, piece.sequences[0], prompt=piece.prompt)
        return bins

    @property
    def _shares(self) -> bool:
        return self.share_prompts and self.padding_free

    def _prompt(self, step_row: StepRow) -> int:
        return step_row.prompt if self._shares else 0

    def _row_arrays(self, shares: Sequence[Sequence[StepRow]], names: Mapping[str, Any]) -> Arrays:
        rows: Arrays = {"real": np.zeros((len(shares), self.rows), np.float32)}
        for name, example in names.items():
            per_row = () if np.ndim(example) == 0 else (self.sequences,)
            rows[name] = np.zeros((len(shares), *per_row, self.rows), np.float32)
        for number, share in enumerate(shares):
            rows["real"][number, : len(share)] = 1
            for row, step_row in enumerate(share):
                for name, value in step_row.values.items():
                    rows[name][number, ..., row] = value
        return rows


def _blank(example: Tokens, shape: tuple[int, int], pad_token_id: int, *, shared: bool) -> dict[str, np.ndarray]:
    empty = {"input_ids": pad_token_id, "labels": IGNORE_INDEX}
    names = ("segment_ids", "prefix_ids", "positions") if shared else ("segment_ids",)
    arrays: dict[str, np.ndarray] = {name: np.zeros(shape, np.int32) for name in names}
    for name, values in example.items():
        kind = np.float32 if np.asarray(values).dtype.kind == "f" else np.int32
        arrays[name] = np.full(shape, empty.get(name, 0), kind)
    return arrays


def _write_bin(arrays: dict[str, np.ndarray], filled: Bin, first_copy: int) -> None:
    """Fills one bin's arrays `[length]`; copies of prompts are numbered from `first_copy` on."""
    start = 0
    for copy, family in enumerate(filled.families, first_copy):
        if len(family.members) == 1:
            number, sequence = family.members[0]
            start = _write(arrays, start, sequence, slice(None), number=number, prefix=0)
            continue
        start = _write(arrays, start, family.members[0][1], slice(family.prompt), number=copy, prefix=0)
        for number, sequence in family.members:
            start = _write(arrays, start, sequence, slice(family.prompt, None), number=number, prefix=copy)


def _write(
    arrays: dict[str, np.ndarray], start: int, sequence: Tokens, part: slice, *, number: int, prefix: int
) -> int:
    """Writes a part of a sequence, and returns the position behind it."""
    positions = np.arange(len(sequence["input_ids"]))[part]
    span = slice(start, start + len(positions))
    for name, values in sequence.items():
        arrays[name][span] = values[part]
    arrays["segment_ids"][span] = number
    if "prefix_ids" in arrays:
        arrays["prefix_ids"][span] = prefix
        arrays["positions"][span] = positions
    return span.stop
