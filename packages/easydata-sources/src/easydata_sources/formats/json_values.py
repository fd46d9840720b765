"""Reading JSON objects one after the other from a file that holds an array or whole documents.

Nothing but the object being read is held in memory, and the byte after each object is known, so that
reading can begin there again. An object that cannot be read costs itself only, as long as its brackets close.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import BinaryIO

from easydata_sources.bad_rows.bad_row import BadRow, Care
from easydata_sources.errors import DataFormatError
from easydata_sources.formats.json_text import JsonFaultError, parse_json_at
from easydata_sources.storage.compression import open_at
from easydata_sources.storage.files import DataFile
from easydata_sources.types import Row

_BLOCK_BYTES = 1 << 18
_SHOWN = 1 << 12
_MOST_BRACKETS = 1 << 20  # of a value that is stepped over, counted by their runs: beyond, it is no row of anybody

PLAIN = Care()


def read_json_values(
    file: DataFile, *, offset: int, row: int, array: bool, care: Care = PLAIN
) -> Iterator[tuple[Row, int]]:
    """Yields (object, byte after it).

    Args:
        file: The file.
        offset: Where to begin: 0, or the byte after an object.
        row: Number of the first object read, for error messages.
        array: Whether the objects are the elements of one array; otherwise they just follow each other.
        care: How large an object may be, and whether what cannot be read is to be marked rather than raised.

    Raises:
        DataFormatError: If the text is no JSON, breaks off, or holds something else than objects.
    """
    with open_at(file, offset) as stream:
        reader = _Reader(file, stream, offset, row, care, array=array)
        if array and offset == 0:
            reader.skip("[")
        while reader.more_values(first=offset == 0 and reader.row == row):
            yield reader.value()


class _Reader:
    """A window of text over the file, and the byte at which it begins."""

    def __init__(self, file: DataFile, stream: BinaryIO, offset: int, row: int, care: Care, *, array: bool) -> None:
        self._array = array
        self._file = file
        self._stream = stream
        self._care = care
        # Bytes that are no text are carried along, so that the objects around them are still read.
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")
        self._text = ""
        self._at = 0  # character of the window that is next
        self._offset = offset  # byte that is next
        self._ended = False
        self.row = row

    def skip(self, character: str) -> None:
        """Steps over one character that must come next, white space aside."""
        found = self._peek()
        if found != character:
            raise self._error(f"{_shown(found)!r}" if found else "the end of the file", f"{character!r}")
        self._step(1)

    def more_values(self, *, first: bool) -> bool:
        """Steps over what separates values; False at the end."""
        found = self._peek()
        if not self._array:
            return found != ""
        if found == "]":
            self._step(1)
            if self._peek():
                raise self._error(f"{_shown(self._peek())!r} after the end of the array", "nothing more")
            return False
        if not first:
            self.skip(",")
        return True

    def value(self) -> tuple[Row, int]:
        """Returns the object that comes next, or the mark of a bad row, and the byte after it."""
        self._peek()
        begin = self._offset
        found, end = self._parse()
        if isinstance(found, DataFormatError):
            if not self._care.marks:
                raise found
            shown = self._text[self._at : self._at + _SHOWN if end is None else min(end, self._at + _SHOWN)]
            bad = BadRow(found, content=_shown(shown))
            if end is None:
                self._step_over_value(found)
            else:
                self._step(end - self._at)
            if found.reason == "too_large":
                found.found = f"{self._offset - begin:,} bytes"
            found = bad
        else:
            assert end is not None
            self._step(end - self._at)
        self.row += 1
        return found, self._offset

    def _parse(self) -> tuple[Row | DataFormatError, int | None]:
        """Returns the next object or why it is none, and the character behind it if that is known."""
        while True:
            try:
                value, end = parse_json_at(self._text, self._at)
            except JsonFaultError as error:
                if error.unfinished and self._fill():
                    continue
                return self._refusal(error), None
            if isinstance(value, dict):
                break
            if end < len(self._text) or not self._fill():  # a number may go on in the next block
                found = f"a JSON {type(value).__name__}: {str(value)[:60]}"
                return self._error(found, "a JSON object", "not_an_object"), end
        try:
            size = len(self._text[self._at : end].encode())
        except UnicodeEncodeError as error:
            where = self._excerpt(self._at + error.start)
            return self._error(f"bytes that are not UTF-8, {where}", "UTF-8 text", "undecodable"), end
        return (value if size <= self._care.largest_row_bytes else self._too_large(f"{size:,} bytes")), end

    def _refusal(self, error: JsonFaultError) -> DataFormatError:
        waiting = len(self._text) - self._at
        if error.unfinished and not self._ended and waiting > self._care.largest_row_bytes:
            return self._too_large(f"more than {waiting:,} characters")
        where = self._excerpt(self._at if error.at is None else error.at)
        return self._error(f"{error.found}, {where}", "a complete JSON object", error.reason)

    def _step_over_value(self, error: DataFormatError) -> None:
        """Steps over a value that cannot be read, by its brackets and quotes; raises if they do not close."""
        begin, depth, quoted, brackets = self._offset, 0, False, 0
        while brackets < _MOST_BRACKETS:
            if depth and not quoted:
                self._step(_match_end(_BETWEEN_BRACKETS, self._text, self._at) - self._at)
            match = (_IN_QUOTES if quoted else _OUTSIDE).search(self._text, self._at)
            if match is None or (match.group() == "\\" and match.end() == len(self._text)):
                # An escape whose second half is in the next block waits for it.
                self._step((len(self._text) if match is None else match.start()) - self._at)
                if not self._fill():
                    break
                continue
            mark = match.group()
            if not depth and not quoted and mark[0] in "],}":
                # A number or a word, which ends where it does not go on.
                stray = not self._array and match.start() == self._at and self._offset == begin
                self._step(match.start() - self._at + stray)
                return
            if mark[0] in "]}" and len(mark) >= depth:
                self._step(match.start() + depth - self._at)
                return
            self._step(match.end() + (mark == "\\") - self._at)
            if mark == '"':
                quoted = not quoted
                if not depth and not quoted:
                    return
            elif mark[0] in "[{":
                depth, brackets = depth + len(mark), brackets + 1
            elif mark[0] in "]}":
                depth -= len(mark)
        raise error

    def _peek(self) -> str:
        """Steps over white space and returns the next character; empty at the end of the file."""
        while True:
            self._step(_match_end(_WHITE, self._text, self._at) - self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._fill():
                return ""

    def _step(self, characters: int) -> None:
        stop = self._at + characters
        self._offset += len(self._text[self._at : stop].encode(errors="surrogateescape"))
        self._at = stop

    def _fill(self) -> bool:
        """Appends more of the file to the window; False at its end, or if a row would become too large."""
        if self._ended or len(self._text) - self._at > self._care.largest_row_bytes:
            return False
        # Read as much again as is waiting, so that a huge object is not parsed once per block.
        size = max(_BLOCK_BYTES, len(self._text) - self._at)
        block = self._stream.read(size)
        self._ended = not block
        text = self._decoder.decode(block, final=self._ended)
        if self._offset == 0 and self._at == 0 and text.startswith("\ufeff"):
            text, self._offset = text[1:], 3
        self._text = self._text[self._at :] + text
        self._at = 0
        return bool(text) or not self._ended

    def _excerpt(self, at: int) -> str:
        return f"near {_shown(self._text[max(self._at, at - 40) : at + 20])!r}"

    def _too_large(self, found: str) -> DataFormatError:
        return DataFormatError(
            "A row is larger than rows may be.",
            file=self._file.name,
            row=self.row,
            found=found,
            expected=f"at most {self._care.largest_row_bytes:,} bytes",
            mend="cut the row up, or allow it: .on_bad_rows('raise', largest_row_bytes=…)",
            reason="too_large",
        )

    def _error(self, found: str, expected: str, reason: str = "broken_json") -> DataFormatError:
        return DataFormatError(
            "The JSON of a file is broken or breaks off.",
            file=self._file.name,
            row=self.row,
            found=f"{found}, after byte {self._offset}",
            expected=expected,
            mend="complete the file, or write one object per line (JSON lines), which survives being cut off",
            reason=reason,
        )


def _match_end(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Returns where the match of a pattern ends that matches nothing at least."""
    match = pattern.match(text, at)
    assert match is not None
    return match.end()


def _shown(text: str) -> str:
    return text if text.isascii() else text.encode(errors="surrogateescape").decode(errors="backslashreplace")


_WHITE = re.compile(r"[ \t\r\n]*")
_IN_QUOTES = re.compile(r'["\\]')
_OUTSIDE = re.compile(r'[",]|[\[{]+|[\]}]+')
_BETWEEN_BRACKETS = re.compile(r'(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+"|\[\]|\{\})*+', re.DOTALL)
