"""PackedShardedSource: tokenized rows of a source, packed."""

from __future__ import annotations

from functools import cached_property
from itertools import islice
from typing import Any, final

import numpy as np
from easydata_sources.combined.transformed import TransformedShardedSource
from easydata_sources.report import DataReport
from easydata_sources.source import ShardedDataSource
from numpy.typing import NDArray

from easydata_tokenize.packing.transform import OverLong, PackTransform

__all__ = ["PackedShardedSource"]


@final
class PackedShardedSource(TransformedShardedSource):
    """A source of packed rows: `source.transform(PackTransform(…))`, with a length where that can be known.

    `shuffle` and `shard` act on the rows below, by whole windows: each epoch packs other rows together, and any number
    of hosts together read the same packs in the same order.

    Over a set of `open_saved`, whose lengths are known, `len()` and the window of each pack are found without reading.

    Args:
        source: Tokenized rows.
        seq_length: As of `PackTransform`, like all that follow.
        strategy: As there.
        over_long: As there.
        window: As there.
        input_field: As there.
        report: As there.
    """

    def __init__(
        self,
        source: ShardedDataSource,
        seq_length: int,
        strategy: str = "best_fit",
        *,
        over_long: OverLong | None = None,
        window: int = 1024,
        input_field: str = "input_ids",
        report: DataReport | None = None,
    ) -> None:
        pack = PackTransform(
            seq_length, strategy, over_long=over_long, window=window, input_field=input_field, report=report
        )
        super().__init__(source, pack)
        self._pack = pack

    def __len__(self) -> int:
        if self._packs_before is None:
            return super().__len__()
        return int(self._packs_before[-1])

    def packed_row(self, index: int) -> dict[str, Any]:
        """Returns one packed row, reading the window of source rows that it is in and no other.

        Raises:
            TypeError: If the lengths of the source's rows are not known.
            IndexError: If there are not so many packed rows.
        """
        before = self._packs_before
        if before is None:
            raise TypeError("The lengths of these rows are unknown until they are read; open_saved(…) knows them.")
        if not 0 <= index < before[-1]:
            raise IndexError(f"There is no packed row {index}; there are {before[-1]}.")
        window = int(np.searchsorted(before, index, side="right")) - 1
        rows = self.source.rows()
        rows.skip(window * self._pack.window)
        outputs = self._pack.counting_in(DataReport()).pack(list(islice(rows, self._pack.window)))
        return outputs[index - int(before[window])]

    def over(self, source: ShardedDataSource) -> TransformedShardedSource:
        stage = super().over(source)
        vars(stage).pop("_packs_before", None)
        return stage

    @cached_property
    def _packs_before(self) -> NDArray[np.int64] | None:
        """Packs before each window, and in all: int64 `[windows + 1]`; None if lengths are not known."""
        known = getattr(self.source, "token_lengths", None)
        if known is None or self.transform_applied is not self._pack:
            return None
        lengths, window = known(), self._pack.window
        if lengths is None:
            return None
        counts = [self._pack.count_packs(lengths[at : at + window]) for at in range(0, len(lengths), window)]
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
