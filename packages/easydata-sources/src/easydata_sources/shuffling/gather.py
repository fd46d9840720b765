"""Gather: rows of an Arrow table by their numbers, a run of columns at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from easydata_sources.rows import concat_rows, take_rows
from easydata_sources.types import Rows

if TYPE_CHECKING:
    import pyarrow as pa


class Gather:
    """Takes rows out of a table in any order.

    Libraries take one row after the other, or join all chunks of a column first; here each chunk that holds some of the
    rows is asked once.

    Args:
        table: The table; its chunks may be mapped files.
    """

    def __init__(self, table: pa.Table) -> None:
        import numpy as np

        self._batches = table.to_batches()
        self._ends = np.cumsum([batch.num_rows for batch in self._batches])

    def __call__(self, indices: Sequence[int]) -> Rows:
        """Returns the rows with these numbers, in that order."""
        import numpy as np

        wanted = np.asarray(indices, np.int64)
        owners = self._ends.searchsorted(wanted, side="right")
        by_owner = owners.argsort(kind="stable")
        held, firsts = np.unique(owners[by_owner], return_index=True)
        runs = []
        for owner, positions in zip(held.tolist(), np.split(by_owner, firsts[1:]), strict=True):
            batch = self._batches[owner]
            runs.append(take_rows(batch, wanted[positions] - (self._ends[owner] - batch.num_rows)))
        rows = concat_rows(runs)
        return rows if len(runs) == 1 else take_rows(rows, by_owner.argsort())
