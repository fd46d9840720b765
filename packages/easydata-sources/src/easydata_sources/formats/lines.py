"""Lines of a file as runs of bytes with known offsets, so that any line can be found again by seeking."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from easydata_sources.bad_rows.bad_row import LARGEST_ROW_BYTES
from easydata_sources.storage.compression import open_at
from easydata_sources.storage.files import DataFile

BOM = b"\xef\xbb\xbf"
"""The byte order mark with which some programs begin a file of UTF-8; it belongs to no row."""

_BLOCK_BYTES = 1 << 18
_BEGINNING_BYTES = 1 << 17


@dataclass(frozen=True, slots=True)
class LineRun:
    """Consecutive whole lines, without their newlines; or one line that is too long, of which the beginning is kept."""

    offset: int
    """Byte at which the first line begins, in the uncompressed content."""
    lines: list[bytes]
    too_long: int | None = None
    """Bytes of the one line, if it is longer than lines may be."""

    def starts(self) -> list[int]:
        """Returns the byte at which each line begins, and at the end the byte after the run."""
        if self.too_long is not None:
            return [self.offset, self.offset + self.too_long + 1]
        return list(accumulate((len(line) + 1 for line in self.lines), initial=self.offset))

    def rows(self, *, blank_lines_count: bool) -> list[int]:
        """Returns the indices of the lines that are rows.

        Args:
            blank_lines_count: Whether a line of nothing but white space is one. One that is too long always is.
        """
        if blank_lines_count or self.too_long is not None:
            return list(range(len(self.lines)))
        return [index for index, line in enumerate(self.lines) if line and not line.isspace()]


def read_line_runs(
    file: DataFile, offset: int = 0, *, stop: int | None = None, longest: int = LARGEST_ROW_BYTES
) -> Iterator[LineRun]:
    """Yields the file's lines from byte `offset` on, which must be the beginning of a line.

    The last line counts whether or not a newline ends it; no line of zero bytes is made up after a final
    newline. No more is held in memory than a line of the longest length and a block.

    Args:
        file: The file.
        offset: Where to begin.
        stop: Byte before which to end, also the beginning of a line; None = the end of the file.
        longest: Lines of more bytes may come as their beginning only.

    Raises:
        DataFormatError: If the file is compressed and damaged or cut off, after the lines in front of that.
    """
    line = _Unfinished(longest)
    for block in _blocks(file, offset, stop):
        begins = offset == 0 and not line.size and block.startswith(BOM)
        offset = len(BOM) if begins else offset
        first, newline, rest = block.removeprefix(BOM if begins else b"").partition(b"\n")
        line.add(first)
        if not newline:
            continue
        if line.size > longest:
            yield LineRun(offset, [line.text()], line.size)
            offset += line.size + 1
            head, newline, tail = rest.rpartition(b"\n")
        else:
            head, newline, tail = (line.text() + newline + rest).rpartition(b"\n")
        if newline:
            yield LineRun(offset, head.split(b"\n"))
            offset += len(head) + 1
        line = _Unfinished(longest)
        line.add(tail)
    if line.size:
        yield LineRun(offset, [line.text()], line.size if line.size > longest else None)


class _Unfinished:
    """A line that has not ended yet; when it is too long, its beginning."""

    def __init__(self, longest: int) -> None:
        self.size = 0
        self._longest = longest
        self._parts: list[bytes] = []

    def add(self, part: bytes) -> None:
        self.size += len(part)
        if self.size <= self._longest:
            self._parts.append(part)
        elif len(self._parts) != 1 or len(self._parts[0]) > _BEGINNING_BYTES:
            self._parts = [b"".join([*self._parts, part])[:_BEGINNING_BYTES]]

    def text(self) -> bytes:
        return b"".join(self._parts)


def _blocks(file: DataFile, offset: int, stop: int | None) -> Iterator[bytes]:
    with open_at(file, offset) as stream:
        while stop is None or offset < stop:
            block = stream.read(_BLOCK_BYTES if stop is None else min(_BLOCK_BYTES, stop - offset))
            if not block:
                return
            offset += len(block)
            yield block
