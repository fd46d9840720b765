"""Records of delimited text: lists of values, and the byte behind each.

Where the quotes of a record do not fit together, nobody can say for sure where it ends. It is then taken to end where
the number of its quotes becomes even, as that of a sound record does. Only where it would never end, or would swallow
many lines that are records themselves, a quote must have been forgotten in its first line, and the next begins another.
"""

from __future__ import annotations

import csv
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from easydata_sources.errors import DataFormatError
from easydata_sources.formats.lines import LineRun, read_line_runs
from easydata_sources.storage.files import DataFile

_EVIDENCE_LINES = 16


class CsvRecords:
    """The records of a file, in order; blank lines are left out.

    Args:
        file: The file.
        offset: Byte at which to begin, which must be the beginning of a record.
        delimiter: Character between values.
        largest: Bytes above which a record is given up.
    """

    def __init__(self, file: DataFile, offset: int, delimiter: str, largest: int) -> None:
        self.offset = offset
        """Byte behind the last record."""
        self._file = file
        self._delimiter = delimiter
        self._largest = largest
        # Python's own limit is one for the whole process, and so small (131,072 characters) that documents exceed it.
        csv.field_size_limit(sys.maxsize)
        self._begin(offset)

    def next_record(self) -> list[str] | None:
        """Returns the values of the next record; None at the end.

        Raises:
            DataFormatError: If it cannot be read; reading may go on behind it, unless the reason is `damaged_file`.
        """
        while True:
            self._lines.begin_record()
            try:
                values = next(self._reader, None)
            except csv.Error as error:
                self.offset = self._lines.record[0].end
                raise self._broken(str(error), "broken_csv") from error
            except _TooLargeError as error:
                raise self._step_over_giant() from error
            if self._lines.record:
                self.offset = self._lines.record[-1].end
            if values is None:
                return None
            if self._lines.undecodable is not None:
                raise self._broken(f"bytes that are not UTF-8 ({self._lines.undecodable})", "undecodable")
            if values:
                return values

    def step_over_break(self, width: int) -> None:
        """Goes behind the record that has just been found broken.

        Args:
            width: Values of a sound record.
        """
        if not self._lines.record:  # its first line is known to be all of it
            return
        first = self._lines.record[0]
        self._lines.give_back(1)
        if not _is_odd(first):
            return
        self._lines.begin_record()
        closed = self._lines.read_to_closing_quote()
        *between, last = self._lines.record or [first]
        if closed and not self._are_records(between, width):
            self.offset = last.end
            return
        self._lines.give_back(0)
        if not closed:
            self._step_to_record(width)

    def _step_to_record(self, width: int) -> None:
        """Goes to the next line that is a record of `width` values, or to the end."""
        while True:
            self._lines.begin_record()
            line = self._lines.next_line()
            if line is None:
                return
            if self._is_record(line, width):
                self._lines.give_back(0)
                return
            self.offset = line.end

    def _are_records(self, lines: Sequence[_Line], width: int) -> bool:
        # Of a single column every line is a record, and a few lines of a text may look like records.
        return width > 1 and len(lines) >= _EVIDENCE_LINES and all(self._is_record(line, width) for line in lines)

    def _is_record(self, line: _Line, width: int) -> bool:
        try:
            (values,) = csv.reader([line.text.decode()], delimiter=self._delimiter, strict=True)
        except (csv.Error, ValueError):
            return False
        return len(values) == width

    def _step_over_giant(self) -> DataFormatError:
        """Goes behind a record that is too large, without holding it, and returns the error for it."""
        first, *further = self._lines.record
        size = sum(line.size + 1 for line in self._lines.record) - 1
        self.offset = self._lines.record[-1].end
        if not further:
            return self.too_large(size)
        self._lines.begin_record()
        while (line := self._lines.next_line(hold=False)) is not None:
            size, self.offset = size + line.size + 1, line.end
            if _is_odd(line):
                return self.too_large(size)
        self._begin(first.end)
        return self._broken(f"a quote that is not closed within {size:,} bytes", "broken_csv")

    def too_large(self, size: int) -> DataFormatError:
        """Returns the error for a record of `size` bytes."""
        return DataFormatError(
            "A row is larger than rows may be.",
            file=self._file.name,
            found=f"{size:,} bytes",
            expected=f"at most {self._largest:,} bytes",
            mend="cut the row up, or allow it: .on_bad_rows('raise', largest_row_bytes=…)",
            reason="too_large",
        )

    def _begin(self, offset: int) -> None:
        self.offset = offset
        runs = read_line_runs(self._file, offset, longest=self._largest)
        self._lines = _Lines(runs, self._largest)
        self._reader = csv.reader(self._lines, delimiter=self._delimiter, strict=True)

    def _broken(self, found: str, reason: str) -> DataFormatError:
        return DataFormatError(
            "The file cannot be read as delimited text.",
            file=self._file.name,
            found=f"{found}, before byte {self.offset}",
            expected="UTF-8 text in which quotes are closed and doubled inside values",
            mend="look for an unclosed quote, or give the right delimiter=…",
            reason=reason,
        )


class _TooLargeError(Exception):
    """More bytes have been read for a record than it may have."""


class _Line(NamedTuple):
    text: bytes
    size: int
    end: int
    """Byte behind its newline."""


def _is_odd(line: _Line) -> bool:
    """Returns whether a quote that is open before a line is closed behind it, or the other way round."""
    return line.text.count(b'"') % 2 == 1


class _Lines:
    """Lines of text for a parser; those of a record may be given back to be parsed again."""

    def __init__(self, runs: Iterator[LineRun], largest: int) -> None:
        self.record: list[_Line] = []
        """What the parser has got of the present record."""
        self.undecodable: str | None = None
        """What is wrong with one of them, if it is no text."""
        self._runs = runs
        self._largest = largest
        self._size = 0
        self._waiting: deque[_Line] = deque()
        self._failure: Exception | None = None

    def begin_record(self) -> None:
        self.record, self.undecodable, self._size = [], None, 0

    def give_back(self, first: int) -> None:
        """Takes the record's lines from number `first` on back."""
        self._waiting.extendleft(reversed(self.record[first:]))

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if not self._waiting:
            self._read()
        line = self._waiting.popleft()
        self.record.append(line)
        self._size += line.size
        if self._size > self._largest:
            raise _TooLargeError
        try:
            return line.text.decode() + "\n"
        except UnicodeDecodeError as error:
            self.undecodable = error.reason
            # The record's end is found all the same, so that the rows after it can be read.
            return line.text.decode(errors="surrogateescape") + "\n"

    def next_line(self, *, hold: bool = True) -> _Line | None:
        """Returns the next line as it is; None at the end, or where the file cannot be read on.

        Args:
            hold: Whether it may be given back.
        """
        try:
            if not self._waiting:
                self._read()
        except (StopIteration, DataFormatError):
            return None
        line = self._waiting.popleft()
        if hold:
            self.record.append(line)
        return line

    def read_to_closing_quote(self) -> bool:
        """Reads lines up to the one in which an open quote closes; False if none is near enough."""
        size = 0
        while size <= self._largest and (line := self.next_line()) is not None:
            size += line.size
            if _is_odd(line):
                return True
        return False

    def _read(self) -> None:
        if self._failure is not None:
            raise self._failure
        try:
            run = next(self._runs)
        except Exception as error:  # the end too: a generator that has raised says no more what it was
            self._failure = error
            raise
        starts = run.starts()
        for line, start, after in zip(run.lines, starts, starts[1:], strict=False):
            self._waiting.append(_Line(line, after - start - 1, after))
