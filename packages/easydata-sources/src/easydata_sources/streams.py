"""Row and batch streams: iterators that can say where they are.

The one design decision of this package: *position is the only state*. A stream's `.state()` is a small
JSON-able dict which, given to `rows(state)` or `batches(n, state)` of a fresh, equal source, yields exactly
the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Self, TypeAlias, final

from easydata_sources.errors import DataError
from easydata_sources.rows import Row, Rows, batch_of, rows_as_batch, rows_as_dicts, slice_rows

if TYPE_CHECKING:
    import pyarrow as pa

State: TypeAlias = dict[str, Any]
"""A position: plain dicts, lists, strings, numbers; a few hundred bytes at most."""


Place: TypeAlias = tuple[str, int | None]
"""Where a row came from: shard, and row in it (None = unknown)."""

_NEAR_ROWS = 16_384
_DICT_ROWS = 256


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

    def skip(self, rows: int) -> int:
        """Step over rows and return how many there were (fewer only at the end). Override to seek.

        Where it raises, the stream may be anywhere up to there: go on with another, from a position taken before.
        """
        return sum(1 for _ in islice(self, rows))

    def origin(self) -> Place:
        """Return the shard and row that the last row came from, for error messages."""
        return f"position {self.state()}", None


def read_with_places(stream: RowStream, count: int, rows: list[Row], places: list[Place]) -> None:
    """Append the next rows, and where each came from: noted at once, since finding a row again means reading again.

    Where reading raises, the rows before are in the lists.
    """
    for row in islice(stream, count):
        rows.append(row)
        places.append(stream.origin())


def step_over(stream: RowStream, rows: int) -> None:
    """Step over rows that a position says were given.

    Raises:
        DataError: If there are fewer: the data is not that of the position.
    """
    found = stream.skip(rows)
    if found < rows:
        raise beyond_the_end(f"{rows - found} more rows were given there than there are now")


def beyond_the_end(found: str) -> DataError:
    """Return the error for a position that lies behind the end of the data.

    Args:
        found: What shows it.
    """
    return DataError(
        f"The position to go on from lies behind the end of the data: {found}. A file has become shorter, or is "
        "another one.\n  mend: resume with the data that the position was saved with, or start a new run"
    )


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
    place: Callable[[int], Place]
    """Where row k of the run came from."""


class ChunkReader(ABC):
    """What the two streams below read from."""

    @abstractmethod
    def chunks(self, start: State) -> Iterator[Chunk]:
        """Yield the runs of rows from a position on."""

    @abstractmethod
    def seek(self, start: State, rows: int) -> tuple[State, int]:
        """Return the position `rows` rows further on, and how many there were up to it."""


@final
class ChunkRowStream(RowStream):
    """Dict rows from a chunk reader."""

    def __init__(self, reader: ChunkReader, start: State) -> None:
        self._reader = reader
        self._start = start
        self._chunks = reader.chunks(start)
        self._chunk: Chunk | None = None
        self._given = 0  # rows of the chunk given or stepped over
        self._dicts: list[Row] = []  # the next of them, as far as they have been turned into dicts
        self._first_dict = 0

    def __next__(self) -> Row:
        while self._chunk is None or self._given == len(self._chunk.rows):
            self._chunk, self._given, self._dicts, self._first_dict = self._next_chunk(), 0, [], 0
        if self._given >= self._first_dict + len(self._dicts):
            self._first_dict = self._given
            self._dicts = rows_as_dicts(slice_rows(self._chunk.rows, self._given, self._given + _DICT_ROWS))
        row = self._dicts[self._given - self._first_dict]
        self._given += 1
        return row

    def state(self) -> State:
        return dict(self._start) if self._chunk is None else self._chunk.state_after(self._given)

    def skip(self, rows: int) -> int:
        here = 0 if self._chunk is None else min(rows, len(self._chunk.rows) - self._given)
        self._given += here
        if here == rows:
            return rows
        if self._is_near(rows - here):
            return here + self._step_over(rows - here)
        self._start, skipped = self._reader.seek(self.state(), rows - here)
        self._chunks, self._chunk, self._given = self._reader.chunks(self._start), None, 0
        return here + skipped

    def origin(self) -> Place:
        if self._chunk is None or not self._given:
            return super().origin()
        return self._chunk.place(self._given - 1)

    def _is_near(self, rows: int) -> bool:
        """Whether decoding columns up to there costs less than opening the file again."""
        columns = self._chunk is not None and not isinstance(self._chunk.rows, list)
        return columns and rows <= _NEAR_ROWS

    def _step_over(self, rows: int) -> int:
        skipped = 0
        while skipped < rows:
            try:
                self._chunk, self._dicts, self._first_dict = self._next_chunk(), [], 0
            except StopIteration:
                break
            self._given = min(rows - skipped, len(self._chunk.rows))
            skipped += self._given
        return skipped

    def _next_chunk(self) -> Chunk:
        try:
            return next(self._chunks)
        except StopIteration:
            raise
        except Exception:
            # A generator that has raised looks exhausted ever after; asked again, it must fail again.
            self._chunks = self._reader.chunks(self.state())
            raise


@final
class ChunkBatchStream(BatchStream):
    """Record batches of a fixed number of rows from a chunk reader; only the last has fewer."""

    def __init__(self, reader: ChunkReader, start: State, rows: int) -> None:
        self._reader = reader
        self._chunks = reader.chunks(start)
        self._state: Callable[[], State] = lambda: dict(start)
        self._size = rows
        self._chunk: Chunk | None = None
        self._given = 0

    def __next__(self) -> pa.RecordBatch:
        runs, where = self.take(self._size)
        if not runs:
            raise StopIteration
        return batch_of(runs, where=where)

    def take(self, rows: int) -> tuple[list[Rows], str]:
        """Return the next `rows` rows as runs, fewer only at the end, and where the last of them lie."""
        runs: list[Rows] = []
        where = ""
        while rows:
            if self._chunk is None or self._given == len(self._chunk.rows):
                chunk = self._next_chunk(runs)
                if chunk is None:
                    break
                self._chunk, self._given = chunk, 0
            where = self._chunk.place(self._given)[0]
            stop = min(self._given + rows, len(self._chunk.rows))
            runs.append(slice_rows(self._chunk.rows, self._given, stop))
            rows -= stop - self._given
            self._move_to(stop)
        return runs, where

    def skip(self, rows: int) -> int:
        """Step over rows and return how many there were (fewer only at the end)."""
        skipped = 0
        while skipped < rows:
            if self._chunk is not None and self._given < len(self._chunk.rows):
                here = min(rows - skipped, len(self._chunk.rows) - self._given)
                self._move_to(self._given + here)
                skipped += here
            elif self._is_far(rows - skipped):
                position, more = self._reader.seek(self.state(), rows - skipped)
                self._chunks, self._chunk, self._given = self._reader.chunks(position), None, 0
                self._state = partial(dict, position)
                return skipped + more
            else:
                chunk = self._next_chunk([])
                if chunk is None:
                    break
                self._chunk, self._given = chunk, 0
        return skipped

    def state(self) -> State:
        return self._state()

    def _move_to(self, given: int) -> None:
        assert self._chunk is not None
        self._given = given
        self._state = partial(self._chunk.state_after, given)

    def _is_far(self, rows: int) -> bool:
        """Whether opening the source again costs less than decoding columns up to there, or parsing rows."""
        return rows > (_NEAR_ROWS if self._chunk is None or not isinstance(self._chunk.rows, list) else _DICT_ROWS)

    def _next_chunk(self, runs: list[Rows]) -> Chunk | None:
        """Return the next chunk; None at the end, or if it cannot be read while there are rows to give first."""
        try:
            return next(self._chunks, None)
        except Exception:
            # A generator that has raised looks exhausted ever after; asked again, it must fail again.
            self._chunks = self._reader.chunks(self.state())
            if not runs:
                raise
            return None


@final
class RowsAsBatches(BatchStream):
    """Record batches gathered from a row stream."""

    def __init__(self, stream: RowStream, rows: int) -> None:
        self._stream = stream
        self._size = rows
        self._failure: Exception | None = None

    def __next__(self) -> pa.RecordBatch:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        rows: list[Row] = []
        try:
            rows.extend(islice(self._stream, self._size))
        except Exception as failure:
            if not rows:
                raise
            self._failure = failure  # the rows read before it are given first
        if not rows:
            raise StopIteration
        return rows_as_batch(rows, where=self._stream.origin()[0])

    def state(self) -> State:
        return self._stream.state()
