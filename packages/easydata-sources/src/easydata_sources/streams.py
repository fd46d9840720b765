"""Row and batch streams: iterators that can say where they are.

The one design decision of this package: *position is the only state*. A stream's `.state()` is a small JSON-able
dict which, given to `rows(state)` or `batches(n, state)` of a fresh, equal source, yields exactly the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from easydata_sources.rows import Row, Rows, concat_rows, rows_as_batch, rows_as_dicts, slice_rows

if TYPE_CHECKING:
    import pyarrow as pa

State: TypeAlias = dict[str, Any]
"""A position: plain dicts, lists, strings, numbers; a few hundred bytes at most."""


class RowStream(ABC):
    """An iterator of dict rows with a position."""

    def __iter__(self) -> Self:
        return self

    @abstractmethod
    def __next__(self) -> Row:
        """Return the next row."""

    @abstractmethod
    def state(self) -> State:
        """Return the position after the rows yielded so far, as a fresh JSON-able dict."""

    def origin(self) -> tuple[str, int | None]:
        """Return the shard and row that the last row came from, for error messages."""
        return f"position {self.state()}", None


class BatchStream(ABC):
    """An iterator of Arrow record batches with a position, in the same dialect as the row stream's."""

    def __iter__(self) -> Self:
        return self

    @abstractmethod
    def __next__(self) -> pa.RecordBatch:
        """Return the next batch; never an empty one."""

    @abstractmethod
    def state(self) -> State:
        """Return the position after the batches yielded so far, as a fresh JSON-able dict."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """A run of rows read in one go, and the positions inside it."""

    rows: Rows
    """The rows; at least one."""
    state_after: Callable[[int], State]
    """Position after the first k rows of the run, 0 <= k <= len(rows); computed only when asked."""
    shard: str
    """Name of the shard the rows belong to."""
    first_row: int
    """Row number of the first of them in its shard."""


class ChunkRowStream(RowStream):
    """Dict rows from an iterator of chunks."""

    def __init__(self, chunks: Iterator[Chunk], start: State) -> None:
        self._chunks = chunks
        self._start = start
        self._chunk: Chunk | None = None
        self._rows: list[Row] = []
        self._given = 0

    def __next__(self) -> Row:
        while self._given == len(self._rows):
            self._advance()
        row = self._rows[self._given]
        self._given += 1
        return row

    def state(self) -> State:
        return dict(self._start) if self._chunk is None else self._chunk.state_after(self._given)

    def origin(self) -> tuple[str, int | None]:
        if self._chunk is None:
            return super().origin()
        return self._chunk.shard, self._chunk.first_row + self._given - 1

    def _advance(self) -> None:
        chunk = next(self._chunks)
        rows = rows_as_dicts(chunk.rows)
        self._chunk, self._rows, self._given = chunk, rows, 0


class ChunkBatchStream(BatchStream):
    """Record batches of a fixed number of rows from an iterator of chunks; the last may be shorter."""

    def __init__(self, chunks: Iterator[Chunk], start: State, rows: int) -> None:
        self._chunks = chunks
        self._state: Callable[[], State] = lambda: dict(start)
        self._size = rows
        self._chunk: Chunk | None = None
        self._given = 0

    def __next__(self) -> pa.RecordBatch:
        runs: list[Rows] = []
        missing = self._size
        where = ""
        while missing:
            if self._chunk is None or self._given == len(self._chunk.rows):
                self._chunk, self._given = next(self._chunks, None), 0
                if self._chunk is None:
                    break
            stop = min(self._given + missing, len(self._chunk.rows))
            runs.append(slice_rows(self._chunk.rows, self._given, stop))
            missing -= stop - self._given
            self._given = stop
            where = self._chunk.shard
            self._state = _position(self._chunk, stop)
        if not runs:
            raise StopIteration
        return rows_as_batch(concat_rows(runs, where=where), where=where)

    def state(self) -> State:
        return self._state()


class RowsAsBatches(BatchStream):
    """Record batches gathered from a row stream."""

    def __init__(self, stream: RowStream, rows: int) -> None:
        self._stream = stream
        self._size = rows

    def __next__(self) -> pa.RecordBatch:
        rows = [row for _, row in zip(range(self._size), self._stream, strict=False)]
        if not rows:
            raise StopIteration
        return rows_as_batch(rows, where=self._stream.origin()[0])

    def state(self) -> State:
        return self._stream.state()


def _position(chunk: Chunk, given: int) -> Callable[[], State]:
    return lambda: chunk.state_after(given)
