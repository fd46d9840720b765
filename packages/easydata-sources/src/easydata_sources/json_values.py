"""Reading JSON objects one after the other from a file that holds an array or whole documents.

Nothing but the object being read is held in memory, and the byte after each object is known, so that
reading can begin there again.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import BinaryIO

from easydata_sources.bad_row import BadRow, Care
from easydata_sources.compression import open_at, read_block
from easydata_sources.errors import DataFormatError
from easydata_sources.files import DataFile
from easydata_sources.rows import Row

_BLOCK_BYTES = 1 << 18
_LARGEST_ROW = 1 << 28  # characters; a larger "row" is a file in which a brace is missing
_WHITE = " \t\r\n"

PLAIN = Care()


def read_json_values(
    file: DataFile, *, offset: int, row: int, array: bool, care: Care = PLAIN
) -> Iterator[tuple[Row, int]]:
    """Yield (object, byte after it).

    Args:
        file: The file.
        offset: Where to begin: 0, or the byte after an object.
        row: Number of the first object read, for error messages.
        array: Whether the objects are the elements of one array; otherwise they just follow each other.
        care: Whether something else than an object is to be marked rather than raised.

    Raises:
        DataFormatError: If the text is no JSON, breaks off, or holds something else than objects.
    """
    with open_at(file, offset) as stream:
        reader = _Reader(file, stream, offset, row)
        if array and offset == 0:
            reader.skip("[")
        while reader.more_values(array, first=offset == 0 and reader.row == row):
            yield reader.value(marks=care.marks)


class _Reader:
    """A window of text over the file, and the byte at which it begins."""

    def __init__(self, file: DataFile, stream: BinaryIO, offset: int, row: int) -> None:
        self._file = file
        self._stream = stream
        # Bytes that are no text are carried along, so that the objects before them are still read.
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")
        self._text = ""
        self._at = 0  # character of the window that is next
        self._offset = offset  # byte that is next
        self._ended = False
        self.row = row

    def skip(self, character: str) -> None:
        """Step over one character that must come next, white space aside."""
        found = self._peek()
        if found != character:
            raise self._error(f"{found!r}" if found else "the end of the file", f"{character!r}")
        self._step(1)

    def more_values(self, array: bool, *, first: bool) -> bool:
        """Step over what separates values; False at the end."""
        found = self._peek()
        if not array:
            return found != ""
        if found == "]":
            self._step(1)
            if self._peek():
                raise self._error(f"{self._peek()!r} after the end of the array", "nothing more")
            return False
        if not first:
            self.skip(",")
        return True

    def value(self, *, marks: bool) -> tuple[Row, int]:
        """Return the object that comes next, or the mark of a bad row, and the byte after it."""
        self._peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if not self._may_be_unfinished(error) or not self._fill():
                    where = f"{error.msg}, {self._excerpt(error.pos)}"
                    raise self._error(where, "a complete JSON object") from error
                continue
            if not isinstance(value, dict):
                found = f"a JSON {type(value).__name__}: {str(value)[:60]}"
                error = self._error(found, "a JSON object", "not_an_object")
                if not marks:
                    raise error
                value = BadRow(error, content=value)
            self._step(end - self._at)
            self.row += 1
            return value, self._offset

    def _may_be_unfinished(self, error: json.JSONDecodeError) -> bool:
        """Whether more text could mend the error; long strings are reported at their beginning."""
        near_end = error.pos >= len(self._text) - 16
        return near_end or error.msg.startswith("Unterminated string")

    def _peek(self) -> str:
        """Step over white space and return the next character; empty at the end of the file."""
        while True:
            rest = len(self._text)
            at = self._at
            while at < rest and self._text[at] in _WHITE:
                at += 1
            self._step(at - self._at)
            if self._at < rest:
                return self._text[self._at]
            if not self._fill():
                return ""

    def _step(self, characters: int) -> None:
        stop = self._at + characters
        try:
            self._offset += len(self._text[self._at : stop].encode())
        except UnicodeEncodeError as error:
            where = self._excerpt(self._at + error.start)
            raise self._error(f"bytes that are not UTF-8, {where}", "UTF-8 text", "undecodable") from error
        self._at = stop

    def _fill(self) -> bool:
        """Append more of the file to the window; False at its end."""
        if self._ended or len(self._text) - self._at > _LARGEST_ROW:
            return False
        # Read as much again as is waiting, so that a huge object is not parsed once per block.
        size = max(_BLOCK_BYTES, len(self._text) - self._at)
        block = read_block(self._stream, self._file, size)
        self._ended = not block
        text = self._decoder.decode(block, final=self._ended)
        if self._offset == 0 and self._at == 0 and text.startswith("\ufeff"):
            text, self._offset = text[1:], 3
        self._text = self._text[self._at :] + text
        self._at = 0
        return not self._ended

    def _excerpt(self, at: int) -> str:
        text = self._text[max(self._at, at - 40) : at + 20]
        bad = "" if text.isascii() else text.encode(errors="surrogateescape").decode(errors="backslashreplace")
        return f"near {bad or text!r}"

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


_DECODER = json.JSONDecoder()
