"""The stream of rows, which reads, skips and says where it is; record batches are a view of it.

The one design decision of this package: *position is the only state*. A stream's `.state()` is a small
JSON-able dict which, given to `rows(state)` or `batches(n, state)` of a fresh, equal source, yields exactly
the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Self, final

from easydata_sources.errors import DataError
from easydata_sources.rows import batch_of, rows_as_dicts, slice_rows
from easydata_sources.types import Origin, Row, Rows, State

if TYPE_CHECKING:
    import pyarrow as pa

_NEAR_ROWS = 16_384  # of columns
_DICT_ROWS = 256


class RowStream(ABC):
    """The rows from a position on: dicts one by one, or runs as the data holds them. Both move the one position.

    Where reading fails, the rows in front of the failure are returned first; asked again, the stream fails again.
    """

    _failed_take: Exception | None = None  # met behind the rows that `take` returned last

    def __iter__(self) -> Self:
        return self

    @abstractmethod
    def __next__(self) -> Row:
        """Returns the next row."""

    @abstractmethod
    def state(self) -> State:
        """Returns the position after the rows returned so far, as a fresh JSON-able dict."""

    def take(self, rows: int) -> Rows | None:
        """Returns the next run, at most `rows` rows; None at the end. Override where the data is columns.

        An empty run says that the columns may be others from here on.

        Raises:
            Exception: What reading the row behind the last run raised.
        """
        if self._failed_take is not None:
            failure, self._failed_take = self._failed_take, None
            raise failure
        run: list[Row] = []
        try:
            run.extend(islice(self, rows))
        except Exception as failure:
            if not run:
                raise
            self._failed_take = failure
        return run or None

    def skip(self, rows: int) -> int:
        """Steps over rows and returns how many there were (fewer only at the end). Override to seek.

        Where it raises, the stream may be anywhere up to there: go on with another, from a position before.
        """
        return sum(1 for _ in islice(self, rows))

    def origin(self) -> Origin:
        """Returns the shard and row that the last row came from, for error messages."""
        return f"position {self.state()}", None

    def origin_of_run(self, rows: int) -> Origin:
        """Returns where the first of the last `rows` rows came from, if they lie there one behind the other.

        Override where it is known; None as the row says that it is not.
        """
        shard, row = self.origin()
        return shard, row if rows == 1 else None


def read_with_origins(stream: RowStream, count: int, rows: list[Row], origins: list[Origin]) -> None:
    """Appends the next rows, and where each came from: noted at once, since finding a row again means reading again.

    Where reading raises, the rows before are in the lists.
    """
    for row in islice(stream, count):
        rows.append(row)
        origins.append(stream.origin())


def step_over(stream: RowStream, rows: int) -> None:
    """Steps over rows that a position says were given.

    Raises:
        DataError: If there are fewer: the data is not that of the position.
    """
    found = stream.skip(rows)
    if found < rows:
        raise beyond_the_end(f"{rows - found} more rows were given there than there are now")


def beyond_the_end(found: str) -> DataError:
    """Returns the error for a position that lies behind the end of the data.

    Args:
        found: What shows it.
    """
    return DataError(
        f"The position to go on from lies behind the end of the data: {found}. A file has become shorter, or is "
        "another one.\n  mend: resume with the data that the position was saved with, or start a new run"
    )


@final
class BatchStream:
    """The rows of a stream as Arrow record batches; positions are those of the stream.

    Args:
        stream: The rows.
        rows: Most rows of a batch. A batch has fewer at the end, in front of a failure, and where a source ends behind
            which another one begins.
    """

    def __init__(self, stream: RowStream, rows: int) -> None:
        self._stream = stream
        self._size = rows
        self._failure: Exception | None = None  # met behind the rows of the last batch

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> pa.RecordBatch:
        """Returns the next batch; never an empty one."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        runs: list[Rows] = []
        missing = self._size
        while missing:
            try:
                run = self._stream.take(missing)
            except Exception as failure:
                if not runs:
                    raise
                self._failure = failure
                break
            if run is None or (runs and not len(run)):
                break
            if len(run):
                runs.append(run)
                missing -= len(run)
        if not runs:
            raise StopIteration
        return batch_of(runs, where=self._stream.origin()[0])

    def state(self) -> State:
        """Returns the position after the batches returned so far, as a fresh JSON-able dict."""
        return self._stream.state()


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """A run of rows read in one go, and the positions inside it."""

    rows: Rows
    """The rows; at least one."""
    state_after: Callable[[int], State]
    """Position after the first k rows of the run, 0 <= k <= len(rows); computed only when asked."""
    origin: Callable[[int], Origin]
    """Where row k of the run came from."""

    def origin_of_run(self, start: int, rows: int) -> Origin:
        """Returns where row `start` came from, if the `rows` rows from there on lie there one behind the other."""
        shard, row = self.origin(start)
        consecutive = row is not None and self.origin(start + rows - 1) == (shard, row + rows - 1)
        return shard, row if consecutive else None


class ChunkReader(ABC):
    """What a `ChunkStream` reads from."""

    @abstractmethod
    def chunks(self, start: State) -> Iterator[Chunk]:
        """Yields the runs of rows from a position on."""

    @abstractmethod
    def seek(self, start: State, rows: int) -> tuple[State, int]:
        """Returns the position `rows` rows further on, and how many there were up to it."""

    @abstractmethod
    def near_rows(self, start: State) -> int:
        """Returns how many dict rows from a position on are read sooner than the position behind them is opened."""


@final
class ChunkStream(RowStream):
    """The rows of a chunk reader.

    Args:
        reader: The reader.
        start: Where to begin.
    """

    def __init__(self, reader: ChunkReader, start: State) -> None:
        self._reader = reader
        self._start = start
        self._chunks = reader.chunks(start)
        self._chunk: Chunk | None = None
        self._consumed = 0  # rows of the chunk returned or stepped over
        self._dicts: list[Row] = []  # some of its rows as dicts
        self._first_dict = 0

    def __next__(self) -> Row:
        while self._chunk is None or self._consumed == len(self._chunk.rows):
            self._next_chunk()
        if self._consumed >= self._first_dict + len(self._dicts):
            self._first_dict = self._consumed
            self._dicts = rows_as_dicts(slice_rows(self._chunk.rows, self._consumed, self._consumed + _DICT_ROWS))
        row = self._dicts[self._consumed - self._first_dict]
        self._consumed += 1
        return row

    def take(self, rows: int) -> Rows | None:
        try:
            while self._chunk is None or self._consumed == len(self._chunk.rows):
                self._next_chunk()
        except StopIteration:
            return None
        first, self._consumed = self._consumed, min(self._consumed + rows, len(self._chunk.rows))
        return slice_rows(self._chunk.rows, first, self._consumed)

    def state(self) -> State:
        return dict(self._start) if self._chunk is None else self._chunk.state_after(self._consumed)

    def skip(self, rows: int) -> int:
        skipped = 0
        while skipped < rows:
            left = 0 if self._chunk is None else len(self._chunk.rows) - self._consumed
            if left:
                here = min(rows - skipped, left)
                self._consumed += here
                skipped += here
            elif self._is_far(rows - skipped):
                self._start, more = self._reader.seek(self.state(), rows - skipped)
                self._chunks, self._chunk = self._reader.chunks(self._start), None
                return skipped + more
            else:
                try:
                    self._next_chunk()
                except StopIteration:
                    break
        return skipped

    def origin(self) -> Origin:
        if self._chunk is None or not self._consumed:
            return super().origin()
        return self._chunk.origin(self._consumed - 1)

    def origin_of_run(self, rows: int) -> Origin:
        if self._chunk is None or not 0 < rows <= self._consumed:
            return super().origin_of_run(rows)
        return self._chunk.origin_of_run(self._consumed - rows, rows)

    def _is_far(self, rows: int) -> bool:
        """Returns whether opening the source again costs less than decoding columns up to there, or parsing rows."""
        columns = self._chunk is not None and not isinstance(self._chunk.rows, list)
        return rows > (_NEAR_ROWS if columns else self._reader.near_rows(self.state()))

    def _next_chunk(self) -> None:
        """Goes on to the next chunk.

        Raises:
            StopIteration: If there is none; the present one stays.
        """
        try:
            self._chunk = next(self._chunks)
        except StopIteration:
            raise
        except Exception:
            # A generator that has raised looks exhausted ever after; asked again, it must fail again.
            self._chunks = self._reader.chunks(self.state())
            raise
        self._consumed, self._dicts, self._first_dict = 0, [], 0
