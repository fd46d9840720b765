"""Rows made trainable and packed in one go, so that a step holds rows of one length and almost no position is empty.

A window of source rows becomes packs of at most `seq_length` tokens (`easydata_tokenize.packing`). Rows that are
dropped leave no hole: windows are windows of source rows, and what is left of one is packed together.

Packers that fill well take long rows first, so packs come out ordered by length; a shuffled run shuffles them again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
from easydata_sources import CountingTransform, DataReport
from easydata_sources.errors import RowError
from easydata_tokenize import PackTransform
from easydata_tokenize.packing.transform import OverLong

from easydel_trainers.data.explained import Explains, Views


@final
class PackedRows(CountingTransform):
    """A transform of rows, and packing behind it; both count in the report of the former.

    Args:
        transform: makes rows of `input_ids` and `labels`.
        seq_length: most tokens of a pack.
        strategy: `bfd`, `bfd_split`, `wrapped`, or a name of `easydata_tokenize.packing.plan`.
        over_long: what happens to longer rows; `None` = as the strategy is known for.
        shuffle_seed: seed of the order of a window's packs; `None` = as they were made.

    Raises:
        ValueError: if strategy and policy contradict each other.
    """

    def __init__(
        self,
        transform: CountingTransform,
        *,
        seq_length: int,
        strategy: str,
        over_long: OverLong | None = None,
        shuffle_seed: int | None = None,
    ):
        self._transform, self.report, self._shuffle_seed = transform, transform.report, shuffle_seed
        self._pack = PackTransform(seq_length, strategy, over_long=over_long)

    @property
    def row_transform(self) -> CountingTransform:
        """What makes rows trainable before they are packed."""
        return self._transform

    @property
    def batch_rows(self) -> int:
        """Source rows that are packed together."""
        return self._pack.window

    @property
    def mixes_rows(self) -> bool:
        """Always: a pack is made of several rows."""
        return True

    def transform_batch(self, rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        """Returns the packs of these rows, in the place of the first one.

        Raises:
            RowError: if a row cannot be made trainable, is packed already, or is too long where that is an error.
        """
        if not rows:
            return []
        outputs = self._transform.transform_batch(rows)
        ready = [(number, row) for number, made in enumerate(outputs) for row in made]
        pack = self._pack.counting_in(DataReport())
        try:
            packs = pack.pack([_not_a_pack(index, row) for index, (_, row) in enumerate(ready)])
        except RowError as error:
            error.row_in_batch = ready[error.row_in_batch][0]
            raise
        for reason, count in pack.report.counts.items():
            self.report.count(reason, count)
        return [self._shuffled(packs), *([] for _ in rows[1:])]

    def explain(self, row: Mapping[str, Any]) -> Views:
        """Returns the row by itself, as it is before it is packed."""
        assert isinstance(self._transform, Explains)
        return self._transform.explain(row)

    def _shuffled(self, packs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if self._shuffle_seed is None:
            return packs
        order = np.random.default_rng([self._shuffle_seed, len(packs)]).permutation(len(packs))
        return [packs[number] for number in order]


def _not_a_pack(index: int, row: dict[str, Any]) -> dict[str, Any]:
    if "segment_ids" in row:
        raise RowError(
            "Row is a pack already.",
            row_in_batch=index,
            column="segment_ids",
            found="several documents in one row",
            expected="rows of one document each, to be packed by the trainer",
            mend="packing=False trains packs that were made before, each as it is",
        )
    return row
