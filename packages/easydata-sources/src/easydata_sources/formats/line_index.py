"""LineIndex: where the rows of a text file begin, by spans of a fixed number of rows.

Built in one pass that looks only for line ends; it makes the length, random access by blocks, and resuming
from a bare row number cheap. Kept in memory: two numbers per span.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, islice

from easydata_sources.bad_rows.bad_row import LARGEST_ROW_BYTES
from easydata_sources.errors import DataFormatError
from easydata_sources.formats.lines import LineRun, read_line_runs
from easydata_sources.storage.files import DataFile

SPAN_ROWS = 1024
"""Rows per span (the last of a file has fewer)."""


@dataclass(frozen=True, slots=True)
class Span:
    """A run of rows in a file."""

    offset: int
    """Byte at which it begins."""
    bytes: int
    """Its length."""
    rows: int
    """Rows in it."""


@dataclass(frozen=True, slots=True)
class LineIndex:
    """The spans of one file, in order."""

    file: DataFile
    spans: tuple[Span, ...]
    first_rows: tuple[int, ...]
    """Row number with which each span begins; one entry more than spans: the file's number of rows."""
    blank_lines_count: bool
    longest: int
    """Bytes of a line above which it is a row whatever it holds."""
    failure: DataFormatError | None = None
    """Why the file cannot be read to its end; the spans are those in front of that."""

    @classmethod
    def scan(cls, file: DataFile, *, blank_lines_count: bool = False, longest: int = LARGEST_ROW_BYTES) -> LineIndex:
        """Builds the index of a file by reading it once.

        Args:
            file: The file.
            blank_lines_count: Whether a line of nothing but white space is a row.
            longest: Bytes of a line above which it is read as its beginning only, and is a row whatever it holds.
        """
        spans: list[Span] = []
        failure = None
        try:
            for span in _spans(file, blank_lines_count, longest):
                spans.append(span)
        except DataFormatError as error:
            failure = error
        first_rows = tuple(accumulate((span.rows for span in spans), initial=0))
        return cls(file, tuple(spans), first_rows, blank_lines_count, longest, failure)

    @property
    def rows(self) -> int:
        """Rows in the file.

        Raises:
            DataFormatError: If it cannot be read to its end.
        """
        if self.failure is not None:
            raise self.failure
        return self.first_rows[-1]

    def runs(self, number: int) -> Iterator[LineRun]:
        """Yields the lines of a span."""
        span = self.spans[number]
        return read_line_runs(self.file, span.offset, stop=span.offset + span.bytes, longest=self.longest)

    def offset_after(self, rows: int) -> int:
        """Returns the byte after the line of the last of the first `rows` rows, reading at most one span."""
        last = min(rows, self.first_rows[-1]) - 1
        if last < 0:
            return 0
        number = bisect_right(self.first_rows, last) - 1
        bounds = (bound for run in self.runs(number) for bound in _bounds(run, self.blank_lines_count))
        return next(islice(bounds, last - self.first_rows[number], None))[1]


def _spans(file: DataFile, blank_lines_count: bool, longest: int) -> Iterator[Span]:
    """Yields the spans of a file, and those in front of a failure before raising it."""
    begin, end, rows = 0, 0, 0
    failure = None
    try:
        for start, stop in _row_bounds(file, blank_lines_count, longest):
            if rows == SPAN_ROWS:
                yield Span(begin, start - begin, rows)
                begin, rows = start, 0
            rows, end = rows + 1, stop
    except DataFormatError as error:
        failure = error
    if rows:
        yield Span(begin, end - begin, rows)
    if failure is not None:
        raise failure


def _row_bounds(file: DataFile, blank_lines_count: bool, longest: int) -> Iterator[tuple[int, int]]:
    """Yields (first byte, byte after the newline) of every row."""
    for run in read_line_runs(file, longest=longest):
        yield from _bounds(run, blank_lines_count)


def _bounds(run: LineRun, blank_lines_count: bool) -> Iterator[tuple[int, int]]:
    starts = run.starts()
    for index in run.rows(blank_lines_count=blank_lines_count):
        yield starts[index], starts[index + 1]
