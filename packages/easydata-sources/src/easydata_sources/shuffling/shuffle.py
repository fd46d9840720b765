"""ShuffledShardedSource: a source in another order, without a buffer that would be lost on a restart.

The order is a pure function of (seed, epoch, position). Which one depends on what the source can do:

* rows can be fetched singly (memory, HF data sets): one permutation of all rows;
* rows are read by blocks (Parquet row groups, spans of text lines): the blocks are permuted, and then the
  rows within each window of consecutive blocks, so no block is read more than once per pass;
* rows come only in order (compressed files, streaming, mixtures): the shards are permuted, and then the
  rows within each window of consecutive rows (`shuffle_in_order.py`).

The first two know their position as one number and resume by reading one window.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from copy import copy
from functools import cached_property
from itertools import accumulate
from typing import final

from easydata_sources.combined.wrapping import WrappingSource
from easydata_sources.errors import DataError
from easydata_sources.rows import concat_rows, take_rows
from easydata_sources.shuffling.access import RowAccess
from easydata_sources.shuffling.permutation import mix_key, permute
from easydata_sources.source import ShardedDataSource, SingleShardSource
from easydata_sources.streams import Chunk, ChunkReader, ChunkStream, RowStream
from easydata_sources.types import Identity, Origin, State

_CHUNK_ROWS = 1024
_STRETCH_ROWS = 1 << 14


@final
class ShuffledShardedSource(WrappingSource, SingleShardSource):
    """The rows of a source, each once, in an order given by seed and epoch.

    The position is `{"position": p, "rows": n}`, or that of `shuffle_in_order.py` if rows come only in order.

    Args:
        source: The source.
        seed: Any integer.
        epoch: Another order of the same rows for each epoch.
        window_rows: Rows within which rows are mixed (and held in memory) if they cannot be fetched singly.
    """

    def __init__(self, source: ShardedDataSource, *, seed: int, epoch: int = 0, window_rows: int = 16_384) -> None:
        if window_rows < 2:
            raise DataError(f"A shuffle needs a window of at least 2 rows; window_rows={window_rows}.")
        super().__init__(f"shuffle(seed={seed}, epoch={epoch})")
        self.source = source
        self._key = mix_key(seed, epoch)
        self._window_rows = window_rows

    def identity(self) -> Identity:
        order = {"key": self._key, "window_rows": self._window_rows}
        return {"rows of": self.source.identity(), "shuffled": order}

    def rows(self, state: State | None = None) -> RowStream:
        reader = self._reader
        if reader is not None:
            return ChunkStream(reader, reader.start(state))
        from easydata_sources.shuffling.shuffle_in_order import InOrderShuffle

        return InOrderShuffle(self.source, self._key, self._window_rows, state)

    def __len__(self) -> int:
        return len(self.source)

    def over(self, source: ShardedDataSource) -> ShardedDataSource:
        shuffled = copy(self)  # by way of __getstate__, so without the reader
        shuffled.source = source
        return shuffled

    @cached_property
    def _reader(self) -> _ShuffledReader | None:
        access = self.source.access()
        if access is None:
            return None
        kind = _SingleRows if access.exact else _Windows
        return kind(access, self._key, self._window_rows)

    def __getstate__(self) -> dict[str, object]:
        # The reader holds functions that cannot be pickled and is quickly made again.
        return {name: value for name, value in self.__dict__.items() if name != "_reader"}


class _ShuffledReader(ChunkReader):
    """A permuted order of `total` rows, known by position."""

    def __init__(self, access: RowAccess, key: int, window_rows: int) -> None:
        self.access = access
        self.key = key
        self.window_rows = window_rows
        self.total = sum(access.block_rows)

    def start(self, state: State | None) -> State:
        """Returns the position to begin at, or raises if it is one of other data."""
        if state is None:
            return self.position(0)
        if state.get("rows") != self.total:
            raise DataError(
                f"The position {state} belongs to a shuffle of {state.get('rows')} rows; this source has "
                f"{self.total}.\n  mend: resume with the same files and limits, or start a new run"
            )
        return state

    def position(self, position: int) -> State:
        """Returns a position as a state."""
        return {"position": position, "rows": self.total}

    def seek(self, start: State, rows: int) -> tuple[State, int]:
        stop = min(start["position"] + rows, self.total)
        return self.position(stop), stop - start["position"]


@final
class _SingleRows(_ShuffledReader):
    """Every row fetched by its number."""

    def chunks(self, start: State) -> Iterator[Chunk]:
        ends = list(accumulate(self.access.block_rows))
        for at, indices in self._runs(start["position"]):

            def origin(row: int, indices: list[int] = indices) -> Origin:
                block = bisect_right(ends, indices[row])
                return self.access.origin(block, indices[row] - (ends[block - 1] if block else 0))

            yield Chunk(
                rows=self.access.take(indices),
                state_after=lambda consumed, at=at: self.position(at + consumed),
                origin=origin,
            )

    def near_rows(self, start: State) -> int:
        return 0

    def _runs(self, first: int) -> Iterator[tuple[int, list[int]]]:
        """Yields (position, numbers of the rows from there on), computed for more rows at a time the longer it goes."""
        import numpy as np

        stretch = _CHUNK_ROWS
        while first < self.total:
            stop = min(first + stretch, self.total)
            indices = permute(np.arange(first, stop), self.total, self.key).tolist()
            for done in range(0, len(indices), _CHUNK_ROWS):
                yield first + done, indices[done : done + _CHUNK_ROWS]
            first, stretch = stop, min(2 * stretch, _STRETCH_ROWS)


@final
class _Windows(_ShuffledReader):
    """Blocks in permuted order, and rows permuted within windows of them."""

    def __init__(self, access: RowAccess, key: int, window_rows: int) -> None:
        super().__init__(access, key, window_rows)
        self._windows = self._plan()
        self._ends = list(accumulate(self._rows_of(window) for window in self._windows))

    def chunks(self, start: State) -> Iterator[Chunk]:
        position = start["position"]
        for number in range(bisect_right(self._ends, position), len(self._windows)):
            first = self._ends[number - 1] if number else 0
            yield from self._read_window(number, first, position - first)
            position = self._ends[number]

    def near_rows(self, start: State) -> int:
        return self.window_rows  # to open a position reads its window

    def _read_window(self, number: int, first: int, begin: int) -> Iterator[Chunk]:
        import numpy as np

        window = self._windows[number]
        rows = concat_rows([self.access.read(block) for block in window])
        count = self._rows_of(window)
        order = permute(np.arange(begin, count), count, mix_key(self.key, number)).tolist()
        ends = list(accumulate(self.access.block_rows[block] for block in window))
        for done in range(0, count - begin, _CHUNK_ROWS):
            part = order[done : done + _CHUNK_ROWS]
            at = first + begin + done

            def origin(row: int, part: list[int] = part) -> Origin:
                block = bisect_right(ends, part[row])
                return self.access.origin(window[block], part[row] - (ends[block - 1] if block else 0))

            yield Chunk(
                rows=take_rows(rows, part),
                state_after=lambda consumed, at=at: self.position(at + consumed),
                origin=origin,
            )

    def _plan(self) -> list[list[int]]:
        """Returns the blocks of each window: permuted blocks, as many as it takes to fill the window."""
        import numpy as np

        sizes = self.access.block_rows
        order = permute(np.arange(len(sizes)), max(1, len(sizes)), self.key).tolist()
        windows: list[list[int]] = []
        held = self.window_rows
        for block in order:
            if not sizes[block]:
                continue
            if held >= self.window_rows:
                windows.append([])
                held = 0
            windows[-1].append(block)
            held += sizes[block]
        return windows

    def _rows_of(self, window: list[int]) -> int:
        return sum(self.access.block_rows[block] for block in window)
