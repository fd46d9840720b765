"""Random access to the rows of a source, by blocks: what shuffling needs instead of a buffer.

A block is the unit a format reads well: a row group of Parquet, a span of JSON lines, a slice of a table in
memory. Blocks are numbered in the source's order and together hold every row once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import final

from easydata_sources.rows import concat_rows, slice_rows, take_rows
from easydata_sources.types import Origin, Rows

_SLICE_ROWS = 1024


class RowAccess(ABC):
    """Reads the blocks of one source in any order."""

    @property
    @abstractmethod
    def block_rows(self) -> Sequence[int]:
        """Rows in each block."""

    @property
    @abstractmethod
    def exact(self) -> bool:
        """Whether `take` costs no more than reading as many neighbouring rows."""

    @abstractmethod
    def read(self, block: int) -> Rows:
        """Returns the rows of one block."""

    @abstractmethod
    def origin(self, block: int, row: int) -> Origin:
        """Returns the shard and row that row `row` of a block is."""

    @abstractmethod
    def take(self, indices: Sequence[int]) -> Rows:
        """Returns the rows with these numbers in the source's order; only if `exact`."""


@final
class BlockAccess(RowAccess):
    """Blocks that a function reads whole.

    Args:
        block_rows: Rows in each block.
        origins: Shard and first row of each block.
        read: Returns one block's rows.
    """

    def __init__(
        self, block_rows: Sequence[int], origins: Sequence[tuple[str, int]], read: Callable[[int], Rows]
    ) -> None:
        self._block_rows = block_rows
        self._origins = origins
        self._read = read

    @property
    def block_rows(self) -> Sequence[int]:
        return self._block_rows

    @property
    def exact(self) -> bool:
        return False

    def read(self, block: int) -> Rows:
        return self._read(block)

    def origin(self, block: int, row: int) -> Origin:
        shard, first = self._origins[block]
        return shard, first + row

    def take(self, indices: Sequence[int]) -> Rows:
        raise NotImplementedError("These rows are read by blocks; ask `exact` first.")


@final
class ExactAccess(RowAccess):
    """Rows that a function fetches one by one, at no extra cost.

    Args:
        shard: Name of the shard that holds them all.
        rows: How many there are.
        take: Returns the rows with the given numbers.
    """

    def __init__(self, shard: str, rows: int, take: Callable[[Sequence[int]], Rows]) -> None:
        self._shard = shard
        self._rows = rows
        self._take = take

    @property
    def block_rows(self) -> Sequence[int]:
        return [min(_SLICE_ROWS, self._rows - start) for start in range(0, self._rows, _SLICE_ROWS)]

    @property
    def exact(self) -> bool:
        return True

    def read(self, block: int) -> Rows:
        start = block * _SLICE_ROWS
        return self._take(range(start, min(start + _SLICE_ROWS, self._rows)))

    def origin(self, block: int, row: int) -> Origin:
        return self._shard, block * _SLICE_ROWS + row

    def take(self, indices: Sequence[int]) -> Rows:
        return self._take(indices)


@final
class ConcatenatedAccess(RowAccess):
    """The blocks of several sources, one source after the other."""

    def __init__(self, parts: Sequence[RowAccess]) -> None:
        self._parts = parts
        self._block_rows = [rows for part in parts for rows in part.block_rows]
        self._block_ends = list(accumulate(len(part.block_rows) for part in parts))
        self._row_ends = list(accumulate(sum(part.block_rows) for part in parts))

    @property
    def block_rows(self) -> Sequence[int]:
        return self._block_rows

    @property
    def exact(self) -> bool:
        return all(part.exact for part in self._parts)

    def read(self, block: int) -> Rows:
        part, own = self._locate(block)
        return part.read(own)

    def origin(self, block: int, row: int) -> Origin:
        part, own = self._locate(block)
        return part.origin(own, row)

    def take(self, indices: Sequence[int]) -> Rows:
        wanted: dict[int, list[int]] = {}
        for position, index in enumerate(indices):
            wanted.setdefault(bisect_right(self._row_ends, index), []).append(position)
        runs, order = [], []
        for part, positions in wanted.items():
            first = self._row_ends[part - 1] if part else 0
            runs.append(self._parts[part].take([indices[position] - first for position in positions]))
            order += positions
        back = sorted(range(len(order)), key=order.__getitem__)
        return take_rows(concat_rows(runs), back)

    def _locate(self, block: int) -> tuple[RowAccess, int]:
        part = bisect_right(self._block_ends, block)
        return self._parts[part], block - (self._block_ends[part - 1] if part else 0)


@final
class PrefixAccess(RowAccess):
    """The first `rows` rows of another access."""

    def __init__(self, whole: RowAccess, rows: int) -> None:
        self._whole = whole
        self._block_rows = []
        for available in whole.block_rows:
            if rows <= 0:
                break
            self._block_rows.append(min(available, rows))
            rows -= available

    @property
    def block_rows(self) -> Sequence[int]:
        return self._block_rows

    @property
    def exact(self) -> bool:
        return self._whole.exact

    def read(self, block: int) -> Rows:
        return slice_rows(self._whole.read(block), 0, self._block_rows[block])

    def origin(self, block: int, row: int) -> Origin:
        return self._whole.origin(block, row)

    def take(self, indices: Sequence[int]) -> Rows:
        return self._whole.take(indices)
