"""MixedStream: the rows of a mixture."""

from __future__ import annotations

from typing import final

from easydata_sources import RowStream, State
from easydata_sources.rows import rows_as_dicts, slice_rows
from easydata_sources.streams import Chunk
from easydata_sources.types import Origin, Row, Rows

from easydata_mix.reading.mixer import Mixer
from easydata_mix.reading.mixture import Mixture
from easydata_mix.reading.position import MixturePosition

_DICT_ROWS = 256


@final
class MixedStream(RowStream):
    """The rows of a mixture; columns where all its sources have the same.

    Args:
        mixture: The mixture.
        position: Where to begin; None = at the start.
    """

    def __init__(self, mixture: Mixture, position: MixturePosition | None) -> None:
        planner = mixture.planner()
        self._mixture = mixture
        self._mixer = Mixer(mixture, planner, mixture.start(planner) if position is None else position)
        self._chunk: Chunk | None = None
        self._consumed = 0
        self._dicts: list[Row] = []
        self._first_dict = 0

    def __next__(self) -> Row:
        chunk = self._unread()
        if chunk is None:
            raise StopIteration
        if self._consumed >= self._first_dict + len(self._dicts):
            self._first_dict = self._consumed
            self._dicts = rows_as_dicts(slice_rows(chunk.rows, self._consumed, self._consumed + _DICT_ROWS))
        row = self._dicts[self._consumed - self._first_dict]
        self._consumed += 1
        return row

    def take(self, rows: int) -> Rows | None:
        chunk = self._unread()
        if chunk is None:
            return None
        first, self._consumed = self._consumed, min(self._consumed + rows, len(chunk.rows))
        return slice_rows(chunk.rows, first, self._consumed)

    def state(self) -> State:
        if self._chunk is None:
            return self._mixture.save(self._mixer.position)
        return self._chunk.state_after(self._consumed)

    def skip(self, rows: int) -> int:
        here = 0 if self._chunk is None else min(rows, len(self._chunk.rows) - self._consumed)
        self._consumed += here
        if here == rows:
            return rows
        self._chunk = None
        return here + self._mixer.skip(rows - here)

    def origin(self) -> Origin:
        if self._chunk is None or not self._consumed:
            return super().origin()
        return self._chunk.origin(self._consumed - 1)

    def origin_of_run(self, rows: int) -> Origin:
        if self._chunk is None or not 0 < rows <= self._consumed:
            return super().origin_of_run(rows)
        return self._chunk.origin_of_run(self._consumed - rows, rows)

    def _unread(self) -> Chunk | None:
        """Returns the chunk that the next row is in; None at the end."""
        if self._chunk is None or self._consumed == len(self._chunk.rows):
            mixed = self._mixer.read()
            if mixed is None:
                return None
            self._chunk = Chunk(rows=mixed.rows, state_after=mixed.state_after, origin=mixed.origin)
            self._consumed, self._dicts, self._first_dict = 0, [], 0
        return self._chunk
