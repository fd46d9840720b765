"""Shuffling rows that can only be read in order: shards permuted, then rows within windows.

The position is `{"window": number, "source": position before the window, "consumed": rows of it consumed}`;
resuming reads the window again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import final

from easydata_sources.shuffling.permutation import mix_key, permute
from easydata_sources.source import ShardedDataSource
from easydata_sources.streams import RowStream, beyond_the_end, read_with_origins
from easydata_sources.types import Origin, Row, State


@final
class InOrderShuffle(RowStream):
    """The shuffled rows of a source without random access.

    Args:
        source: The source.
        key: Key of the permutations.
        window_rows: Rows per window.
        state: Where to begin; None = at the start.
    """

    def __init__(self, source: ShardedDataSource, key: int, window_rows: int, state: State | None) -> None:
        # Of a source without end one shard has no end, and must stay behind the others.
        in_place = source.is_endless or source.num_shards() < 2
        self._source = source if in_place else _ShardsPermuted(source, key)
        self._key = key
        self._window_rows = window_rows
        self._window = (state["window"] if state else 0) - 1
        self._stream = self._source.rows(state["source"] if state else None)
        self._before = self._stream.state()
        self._rows: list[Row] = []
        self._origins: list[Origin] = []
        self._order: list[int] = []
        self._consumed = 0
        if state and state["consumed"]:
            self._read_window()
            if state["consumed"] > len(self._rows):
                raise beyond_the_end(f"{state['consumed']} rows of a shuffled window of {len(self._rows)} were given")
            self._consumed = state["consumed"]

    def __next__(self) -> Row:
        if self._consumed == len(self._rows):
            self._read_window()
        row = self._rows[self._order[self._consumed]]
        self._consumed += 1
        return row

    def state(self) -> State:
        if self._consumed == len(self._rows):
            return {"window": self._window + 1, "source": self._stream.state(), "consumed": 0}
        return {"window": self._window, "source": self._before, "consumed": self._consumed}

    def origin(self) -> Origin:
        if not self._consumed:
            return super().origin()
        return self._origins[self._order[self._consumed - 1]]

    def _read_window(self) -> None:
        import numpy as np

        before = self._stream.state()
        rows: list[Row] = []
        origins: list[Origin] = []
        try:
            read_with_origins(self._stream, self._window_rows, rows, origins)
        except Exception:
            self._stream = self._source.rows(before)  # asked again, the whole window is to be read again
            raise
        if not rows:
            raise StopIteration
        self._window, self._before, self._consumed = self._window + 1, before, 0
        self._rows, self._origins = rows, origins
        self._order = permute(np.arange(len(rows)), len(rows), mix_key(self._key, self._window)).tolist()


@final
class _ShardsPermuted(ShardedDataSource):
    """The shards of a source in another order."""

    def __init__(self, source: ShardedDataSource, key: int) -> None:
        import numpy as np

        self._source = source
        names = list(source.shard_names)
        self._names: list[str] = [names[index] for index in permute(np.arange(len(names)), len(names), key).tolist()]

    @property
    def shard_names(self) -> Sequence[str]:
        return self._names

    def open_shard(self, name: str) -> Iterator[Row]:
        return self._source.open_shard(name)

    def open_shard_at_row(self, name: str, row: int) -> Iterator[Row]:
        return self._source.open_shard_at_row(name, row)
