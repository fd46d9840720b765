"""LineIndex: where the rows of a text file begin, by spans of a fixed number of rows.

Built in one pass that looks only for line ends; it makes the length, random access by blocks, and resuming
from a bare row number cheap. Kept in memory: two numbers per span.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, islice

from easydata_sources.compression import open_at
from easydata_sources.files import DataFile
from easydata_sources.lines import LineRun, read_line_runs

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

    @classmethod
    def scan(cls, file: DataFile, *, blank_lines_count: bool = False) -> LineIndex:
        """Build the index of a file by reading it once.

        Args:
            file: The file.
            blank_lines_count: Whether a line of nothing but white space is a row.
        """
        spans = tuple(_spans(file, blank_lines_count))
        first_rows = tuple(accumulate((span.rows for span in spans), initial=0))
        return cls(file, spans, first_rows, blank_lines_count)

    @property
    def rows(self) -> int:
        """Rows in the file."""
        return self.first_rows[-1]

    def offset_after(self, rows: int) -> int:
        """Return the byte after the line of the last of the first `rows` rows, reading at most one span."""
        last = min(rows, self.rows) - 1
        if last < 0:
            return 0
        number = bisect_right(self.first_rows, last) - 1
        span = self.spans[number]
        with open_at(self.file, span.offset) as stream:
            run = LineRun(span.offset, stream.read(span.bytes).split(b"\n"))
        return next(islice(_bounds(run, self.blank_lines_count), last - self.first_rows[number], None))[1]


def _spans(file: DataFile, blank_lines_count: bool) -> Iterator[Span]:
    begin, end, rows = 0, 0, 0
    for start, stop in _row_bounds(file, blank_lines_count):
        if rows == SPAN_ROWS:
            yield Span(begin, start - begin, rows)
            begin, rows = start, 0
        rows, end = rows + 1, stop
    if rows:
        yield Span(begin, end - begin, rows)


def _row_bounds(file: DataFile, blank_lines_count: bool) -> Iterator[tuple[int, int]]:
    """Yield (first byte, byte after the newline) of every row."""
    for run in read_line_runs(file):
        yield from _bounds(run, blank_lines_count)


def _bounds(run: LineRun, blank_lines_count: bool) -> Iterator[tuple[int, int]]:
    starts = run.starts()
    for index, line in enumerate(run.lines):
        if blank_lines_count or (line and not line.isspace()):
            yield starts[index], starts[index + 1]
