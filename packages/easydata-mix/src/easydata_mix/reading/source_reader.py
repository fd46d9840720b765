"""SourceReader: takes exactly n rows from a source, over as many passes as it takes, and knows the position after."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import final

from easydata_sources import RowStream
from easydata_sources.rows import slice_rows
from easydata_sources.types import Origin, Rows

from easydata_mix.errors import MixtureError
from easydata_mix.reading.passes import Passes
from easydata_mix.reading.position import CELL_ROWS, SourcePosition

_FAR_ROWS = 16_384  # from here on it pays to ask for a length, which may mean counting lines


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Consecutive rows of one cell."""

    start: SourcePosition
    """Position of the first of them."""
    rows: Rows
    end: SourcePosition
    """Position behind the last of them."""
    first_origin: Origin | None
    """Where the first of them lies, if the run is consecutive rows of one shard; None = unknown."""

    def after(self, rows: int) -> SourcePosition:
        """Returns the position behind the first `rows` rows."""
        return self.end if rows == len(self.rows) else self.start.moved(rows)

    def sliced(self, start: int, stop: int) -> Run:
        """Returns rows `start` to `stop` of the run."""
        return Run(
            start=self.start.moved(start),
            rows=slice_rows(self.rows, start, stop),
            end=self.after(stop),
            first_origin=self.first_origin and _shifted(self.first_origin, start),
        )


@final
class SourceReader:
    """Reads one source of a mixture."""

    def __init__(self, passes: Passes, source: int, position: SourcePosition, *, restart: bool) -> None:
        """Prepares to read; nothing is opened before rows are wanted.

        Args:
            passes: Gives the rows of a pass.
            source: Which source.
            position: Where to start.
            restart: Start over when a pass ends.
        """
        self._passes = passes
        self._source = source
        self._name = passes.names[source]
        self._restart = restart
        self._consumed = position
        self._end = position  # behind the rows that wait to be taken
        self._stream: RowStream | None = None  # at `_end`
        self._waiting: deque[Run] = deque()
        self._ready = 0

    @property
    def position(self) -> SourcePosition:
        """Position after the rows taken so far."""
        return self._consumed

    def fill(self, rows: int) -> int:
        """Reads ahead until `rows` rows are waiting; returns how many are, fewer only if the source has ended.

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
        """Yields the runs of rows that are waiting, in order."""
        return (run.rows for run in self._waiting)

    def take(self, rows: int) -> list[Run]:
        """Returns the next `rows` rows, which must be waiting."""
        runs: list[Run] = []
        self._ready -= rows
        while rows:
            run = self._waiting.popleft()
            if len(run.rows) > rows:
                self._waiting.appendleft(run.sliced(rows, len(run.rows)))
                run = run.sliced(0, rows)
            runs.append(run)
            self._consumed = run.end
            rows -= len(run.rows)
        return runs

    def skip(self, rows: int) -> None:
        """Steps over the next rows, as far as there are any."""
        here = min(rows, self._ready)
        self.take(here)
        rows -= here
        if not rows:
            return
        length = self._passes.rows[self._source] if self._restart and rows > _FAR_ROWS else None
        if length and self._end.row + rows > length:
            # A pass ends with its last row; the next one has begun only when a row of it was given.
            passes, last = divmod(self._end.row + rows - 1, length)
            self._begin_pass(self._end.passes + passes)
            rows = last + 1
        while rows:
            rows -= self._leap(rows)
            if rows and not self._start_over():
                break
        self._consumed = self._end

    def _read(self, wanted: int) -> Run | None:
        """Returns the next run, at most to the end of the cell; None at the end of the pass."""
        self._name_start()
        stream, start = self._opened(), self._end
        try:
            rows: Rows | None = []
            while rows is not None and not rows:
                rows = stream.take(min(wanted, start.cell_end - start.skip))
            if rows is None:
                return None
            whole = start.skip + len(rows) == start.cell_end
            self._end = start.crossed(len(rows), stream.state()) if whole else start.moved(len(rows))
        except Exception:
            # Rows read just before the failure are in no queue; asked again, the reader must come to them again.
            self._stream = None
            raise
        origin = stream.origin_of_run(len(rows))
        return Run(start=start, rows=rows, end=self._end, first_origin=None if origin[1] is None else origin)

    def _opened(self) -> RowStream:
        """Returns the rows of the present pass from the present position on."""
        if self._stream is None:
            self._stream = self._passes.open(self._source, self._end.passes).rows(self._end.at)
            if self._stream.skip(self._end.skip) < self._end.skip:
                raise self._too_short()
        return self._stream

    def _name_start(self) -> None:
        """Names the position at a pass's start too, where it says which of several orders the pass has."""
        if self._end.at is None and not self._end.skip:
            source = self._passes.open(self._source, self._end.passes)
            if not source.has_repeatable_order:
                self._end = replace(self._end, at=source.rows().state())

    def _too_short(self) -> MixtureError:
        return MixtureError(
            f"The source {self._name!r} ends before row {self._end.row}, where the saved state says reading "
            "stopped. Restore with the data the state was saved with."
        )

    def _leap(self, rows: int) -> int:
        """Steps over rows of the present pass; returns how many there were."""
        self._name_start()
        stream, start = self._opened(), self._end
        border = start.cell_end - start.skip
        if rows < border:
            skipped = stream.skip(rows)
            self._end = start.moved(skipped)
            return skipped
        border += (rows - border) // CELL_ROWS * CELL_ROWS
        skipped = stream.skip(border)
        if skipped < border:  # the pass ends before: come to its last cell instead
            self._stream = None
            return self._leap(skipped) if skipped else 0
        last = start.crossed(border, stream.state())
        rest = stream.skip(rows - border)
        self._end = last.moved(rest)
        return border + rest

    def _start_over(self) -> bool:
        """Begins the next pass; False if the source is not to be restarted."""
        if not self._restart:
            return False
        if self._end.row == 0:
            raise MixtureError(
                f"The source {self._name!r} has no rows, so it cannot be started over. "
                "Remove it, give it weight 0, or check the filter in front of it."
            )
        self._begin_pass(self._end.passes + 1)
        return True

    def _begin_pass(self, number: int) -> None:
        self._stream, self._end = None, SourcePosition(passes=number)


def _shifted(origin: Origin, rows: int) -> Origin:
    shard, row = origin
    return shard, None if row is None else row + rows
