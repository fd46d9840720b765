"""Rows of several sequences (a pair's two answers, say) to arrays of one shape.

Every sequence of a micro-batch has a number, and its tokens carry that number as their segment: first the first
sequences of all rows, then the second ones, and so on, whether or not a row is there. So per-sequence sums are one
`segment_sum`, and it does not matter on which line a sequence lies. A row's sequences always share a micro-batch.

>>> pair = Group(sequences=({"input_ids": [5, 6]}, {"input_ids": [5, 7]}), values={"margin": 0.5})
>>> layout = GroupLayout(micro_batches=1, rows=1, sequences=2, padding_free=True, group=lambda rows: rows, ladder=(5,))
>>> arrays = layout.arrange([pair])
>>> arrays["segment_ids"].tolist(), arrays["rows"]["margin"].tolist()
([[[1, 1, 2, 2, 0]]], [[0.5]])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
from easydel_transforms import IGNORED

from easydel_trainers.data.layout import Arrays, Row, bucket_length, without_segments


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """One row, as a step sees it.

    Attributes:
        sequences: per-token arrays of equal length by name, `input_ids` among them; all groups of a run have equally
            many sequences with equal names.
        values: what is said of the row as a whole: a number, or one number for each sequence.
    """

    sequences: tuple[Mapping[str, Any], ...]
    values: Mapping[str, Any]

    @property
    def tokens(self) -> int:
        """Tokens of all its sequences."""
        return sum(len(sequence["input_ids"]) for sequence in self.sequences)


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupLayout:
    """How the rows of a step are arranged.

    Attributes:
        micro_batches: arrays are split in so many equal parts, one after the other.
        rows: the most rows of one micro-batch.
        sequences: sequences of each row.
        padding_free: whether lines hold several sequences; then a micro-batch is `parts` lines.
        group: a step's rows as groups, in their order.
        complete: adds to the groups what only training needs; not called for people's eyes.
        ladder: lengths that lines may have; `None` = quarter-octave steps from 64.
        multiple_of: lengths of lines are raised to a multiple of this.
        pad_token_id: what empty places hold. Never looked at, since their segment is 0.
        parts: devices that share the lines of a micro-batch; their number is a multiple of it.
    """

    micro_batches: int
    rows: int
    sequences: int
    padding_free: bool
    group: Callable[[Sequence[Any]], Sequence[Group]]
    complete: Callable[[Sequence[Group]], Sequence[Group]] | None = None
    ladder: Sequence[int] | None = None
    multiple_of: int | None = None
    pad_token_id: int = 0
    parts: int = 1

    def arrange(self, rows: Sequence[Row], *, at_least: int = 1) -> Arrays:
        """Arrange one step's rows.

        Args:
            rows: at most `micro_batches * rows` of them; fewer in the last step of a run.
            at_least: lines shall be at least so long.

        Returns:
            Arrays `[micro_batches, lines, length]` of tokens, int32 or float32: `input_ids`, `segment_ids` (0 =
            empty) and what else the sequences have (0 where empty; `labels`: -100). Under `rows`, float32 arrays:
            `real` `[micro_batches, rows]` (1 = there is a row) and the groups' values, `[micro_batches, rows]` or
            `[micro_batches, sequences, rows]`.
        """
        groups = self.group(rows)
        groups = groups if self.complete is None else self.complete(groups)
        return self.arrange_groups(groups, at_least=at_least)

    def arrange_groups(self, groups: Sequence[Group], *, at_least: int = 1) -> Arrays:
        """The same for rows that are groups already.

        Args:
            groups: the rows.
            at_least: lines shall be at least so long.
        """
        shares = self._balanced(groups) if self.padding_free else self._in_order(groups)
        lines = [line for share in shares for line in self._lines(share)]
        longest = max(at_least, *(sum(_length(sequence) for _, sequence in line) for line in lines))
        shape = (len(lines), bucket_length(longest, ladder=self.ladder, multiple_of=self.multiple_of))
        arrays = _blank(groups[0].sequences[0], shape, self.pad_token_id)
        for number, line in enumerate(lines):
            _write_line(arrays, number, line)
        split = (self.micro_batches, len(lines) // self.micro_batches, shape[1])
        tokens = {name: array.reshape(split) for name, array in arrays.items()}
        return {**tokens, "rows": self._row_arrays(shares, groups[0].values)}

    def padded(self, rows: Sequence[Row]) -> Arrays:
        """The same rows as a plain padded batch, for people to look at: all first sequences, all second ones, …

        Returns:
            Arrays `[sequences * rows, length]`, `input_ids` and `attention_mask` among them.
        """
        layout = replace(self, micro_batches=1, rows=len(rows), padding_free=False, complete=None, parts=1)
        arrays = layout.arrange(rows)
        return without_segments({name: array for name, array in arrays.items() if isinstance(array, np.ndarray)})

    def _in_order(self, groups: Sequence[Group]) -> list[list[Group]]:
        starts = range(0, self.micro_batches * self.rows, self.rows)
        return [list(groups[start : start + self.rows]) for start in starts]

    def _balanced(self, groups: Sequence[Group]) -> list[list[Group]]:
        """Longest first, each into the emptiest share that has room for a row."""
        shares: list[list[Group]] = [[] for _ in range(self.micro_batches)]
        loads = [0] * self.micro_batches
        for group in sorted(groups, key=lambda group: -group.tokens):
            open_shares = [number for number, share in enumerate(shares) if len(share) < self.rows]
            emptiest = min(open_shares, key=loads.__getitem__)
            shares[emptiest].append(group)
            loads[emptiest] += group.tokens
        return shares

    def _lines(self, share: Sequence[Group]) -> list[list[tuple[int, Mapping[str, Any]]]]:
        """Numbered sequences of every line of one micro-batch; the numbers ascend."""
        places = [
            [(1 + kind * self.rows + row, share[row].sequences[kind])] if row < len(share) else []
            for kind in range(self.sequences)
            for row in range(self.rows)
        ]
        if not self.padding_free:
            return places + [[]] * (-len(places) % self.parts)
        lines: list[list[tuple[int, Mapping[str, Any]]]] = [[] for _ in range(self.parts)]
        loads = [0] * self.parts
        for numbered in sorted(chain.from_iterable(places), key=lambda numbered: -_length(numbered[1])):
            emptiest = loads.index(min(loads))
            lines[emptiest].append(numbered)
            loads[emptiest] += _length(numbered[1])
        return [sorted(line, key=lambda numbered: numbered[0]) for line in lines]

    def _row_arrays(self, shares: Sequence[Sequence[Group]], names: Mapping[str, Any]) -> Arrays:
        rows: Arrays = {"real": np.zeros((len(shares), self.rows), np.float32)}
        for name, example in names.items():
            per_row = () if np.ndim(example) == 0 else (self.sequences,)
            rows[name] = np.zeros((len(shares), *per_row, self.rows), np.float32)
        for number, share in enumerate(shares):
            rows["real"][number, : len(share)] = 1
            for row, group in enumerate(share):
                for name, value in group.values.items():
                    rows[name][number, ..., row] = value
        return rows


def _length(sequence: Mapping[str, Any]) -> int:
    return len(sequence["input_ids"])


def _blank(example: Mapping[str, Any], shape: tuple[int, int], pad_token_id: int) -> dict[str, np.ndarray]:
    empty = {"input_ids": pad_token_id, "labels": IGNORED}
    arrays: dict[str, np.ndarray] = {"segment_ids": np.zeros(shape, np.int32)}
    for name, values in example.items():
        kind = np.float32 if np.asarray(values).dtype.kind == "f" else np.int32
        arrays[name] = np.full(shape, empty.get(name, 0), kind)
    return arrays


def _write_line(arrays: dict[str, np.ndarray], line: int, sequences: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
    start = 0
    for number, sequence in sequences:
        end = start + _length(sequence)
        for name, values in sequence.items():
            arrays[name][line, start:end] = values
        arrays["segment_ids"][line, start:end] = number
        start = end
