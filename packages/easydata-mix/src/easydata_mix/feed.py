"""Feeds: take exactly n rows from a source, over as many passes as it takes, and know the position after them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeAlias

from easydata_sources import BatchStream, RowStream, ShardedDataSource
from easydata_sources.rows import Rows, slice_rows
from easydata_sources.streams import Place

from easydata_mix.errors import MixtureError

OpenPass: TypeAlias = Callable[[int], ShardedDataSource]
"""The rows of the n-th pass over a source, n from 0."""

_BATCH_ROWS = 1024

_FAR_ROWS = 16_384  # from here on it pays to ask for a length, which may mean counting lines


@dataclass(frozen=True, kw_only=True, slots=True)
class Cursor:
    """A position in a source that is read over and over."""

    turn: int = 0
    """Passes finished."""
    row: int = 0
    """Rows given in the present pass."""
    at: dict[str, Any] | None = None
    """The source's own position, `skip` rows before this one; None = the start of the pass."""
    skip: int = 0
    """Rows to step over after `at`; at most a batch."""

    def moved(self, rows: int) -> Cursor:
        """Return the cursor `rows` rows further on in the same pass."""
        return replace(self, row=self.row + rows, skip=self.skip + rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the cursor as plain JSON types."""
        return {"pass": self.turn, "row": self.row, "at": self.at, "skip": self.skip}

    @classmethod
    def from_dict(cls, entry: dict[str, Any]) -> Cursor:
        """Return the cursor of a saved state."""
        return cls(turn=entry["pass"], row=entry["row"], at=entry["at"], skip=entry["skip"])


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Consecutive rows of one pass."""

    start: Cursor
    """Position of the first of them."""
    rows: Rows
    first_place: Place | None
    """Where the first of them lies, if the run is consecutive rows of one shard; None = unknown."""

    def sliced(self, start: int, stop: int) -> Run:
        """Return rows `start` to `stop` of the run."""
        place = self.first_place and _shifted(self.first_place, start)
        return Run(start=self.start.moved(start), rows=slice_rows(self.rows, start, stop), first_place=place)


class Feed:
    """Reads one source of a mixture, as dict rows or as record batches."""

    def __init__(
        self,
        name: str,
        open_pass: OpenPass,
        cursor: Cursor,
        *,
        columns: bool,
        restart: bool,
        length: Callable[[], int | None],
    ) -> None:
        """Prepare to read; nothing is opened before rows are wanted.

        Args:
            name: Name of the source, for errors.
            open_pass: Gives the rows of a pass.
            cursor: Where to start.
            columns: Read Arrow record batches instead of dict rows.
            restart: Start over when a pass ends.
            length: Gives the rows of a pass, to skip whole passes at once; None = unknown.
        """
        self._name = name
        self._open_pass = open_pass
        self._columns = columns
        self._restart = restart
        self._length = length
        self._end = cursor
        self._stream: RowStream | BatchStream | None = None
        self._waiting: deque[Run] = deque()
        self._ready = 0

    @property
    def cursor(self) -> Cursor:
        """Position after the rows taken so far."""
        return self._waiting[0].start if self._waiting else self._end

    def fill(self, rows: int) -> int:
        """Read ahead until `rows` rows are waiting; return how many are, fewer only if the source has ended.

        Raises:
            MixtureError: If the source must start over but has no rows.
        """
        while self._ready < rows:
            run = self._read(rows - self._ready)
            if run is not None:
                self._waiting.append(run)
                self._ready += len(run.rows)
            elif not self._start_over():
                break
        return min(rows, self._ready)

    def waiting(self) -> Iterator[Rows]:
        """Yield the runs of rows that are waiting, in order."""
        return (run.rows for run in self._waiting)

    def take(self, rows: int) -> list[Run]:
        """Return the next `rows` rows, which must be waiting."""
        taken: list[Run] = []
        self._ready -= rows
        while rows:
            run = self._waiting.popleft()
            if len(run.rows) > rows:
                self._waiting.appendleft(run.sliced(rows, len(run.rows)))
                run = run.sliced(0, rows)
            taken.append(run)
            rows -= len(run.rows)
        return taken

    def skip(self, rows: int) -> None:
        """Step over the next rows, as far as there are any."""
        here = min(rows, self._ready)
        self.take(here)
        rows -= here
        length = self._length() if self._restart and rows > _FAR_ROWS else None
        if length and self._end.row + rows >= length:
            turns, rows = divmod(self._end.row + rows, length)
            self._stream, self._end = None, Cursor(turn=self._end.turn + turns)
        while rows:
            rows -= self._leap(rows)
            if rows and not self._start_over():
                return

    def _read(self, wanted: int) -> Run | None:
        """Return one more run; None at the end of the pass."""
        stream = self._open()
        start, place = self._end, None
        try:
            if isinstance(stream, RowStream):
                rows, place = _pull(stream, wanted)
            else:
                rows = next(stream, [])
        except Exception:
            # Rows read just before the failure are in no queue; asked again, the feed must come to them again.
            self._stream = None
            raise
        if not len(rows):
            return None
        self._end = Cursor(turn=start.turn, row=start.row + len(rows), at=stream.state())
        return Run(start=start, rows=rows, first_place=place)

    def _open(self) -> RowStream | BatchStream:
        """Return the stream of the present pass, opened at the present position."""
        if self._stream is None:
            source = self._open_pass(self._end.turn)
            stream = source.rows(self._end.at)
            if stream.skip(self._end.skip) < self._end.skip:
                raise MixtureError(
                    f"The source {self._name!r} ends before row {self._end.row}, where the saved state says reading "
                    "stopped. Restore with the data the state was saved with."
                )
            self._end = replace(self._end, at=stream.state(), skip=0)
            self._stream = source.batches(_BATCH_ROWS, self._end.at) if self._columns else stream
        return self._stream

    def _leap(self, rows: int) -> int:
        """Step over rows of the present pass; return how many there were."""
        stream = self._open()
        if not isinstance(stream, RowStream):
            # Batches have no skip of their own; the two kinds of streams share their positions.
            stream, self._stream = self._open_pass(self._end.turn).rows(self._end.at), None
        skipped = stream.skip(rows)
        self._end = Cursor(turn=self._end.turn, row=self._end.row + skipped, at=stream.state())
        return skipped

    def _start_over(self) -> bool:
        """Begin the next pass; False if the source is not to be restarted."""
        if not self._restart:
            return False
        if self._end.row == 0:
            raise MixtureError(
                f"The source {self._name!r} has no rows, so it cannot be started over. "
                "Remove it, give it weight 0, or check the filter in front of it."
            )
        self._stream, self._end = None, Cursor(turn=self._end.turn + 1)
        return True


def _pull(stream: RowStream, wanted: int) -> tuple[list[dict[str, Any]], Place | None]:
    """Return the next rows and where the first lies, if the last one's place shows that they are consecutive."""
    rows = list(islice(stream, 1))
    if not rows:
        return rows, None
    first = stream.origin()
    rows += islice(stream, wanted - 1)
    consecutive = first[1] is not None and stream.origin() == _shifted(first, len(rows) - 1)
    return rows, first if consecutive else None


def _shifted(place: Place, rows: int) -> Place:
    shard, row = place
    return shard, None if row is None else row + rows
