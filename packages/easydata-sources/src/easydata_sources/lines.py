"""Lines of a file as runs of bytes with known offsets, so that any line can be found again by seeking."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from easydata_sources.compression import open_at, read_block
from easydata_sources.files import DataFile

_BLOCK_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class LineRun:
    """Consecutive whole lines, without their newlines."""

    offset: int
    """Byte at which the first line begins, in the uncompressed content."""
    lines: list[bytes]

    def starts(self) -> list[int]:
        """Return the byte at which each line begins, and at the end the byte after the run."""
        return list(accumulate((len(line) + 1 for line in self.lines), initial=self.offset))


def read_line_runs(file: DataFile, offset: int = 0) -> Iterator[LineRun]:
    """Yield the file's lines from byte `offset` on, which must be the beginning of a line.

    The last line counts whether or not a newline ends it; no line of zero bytes is made up after a final
    newline.
    """
    with open_at(file, offset) as stream:
        unfinished: list[bytes] = []
        while block := read_block(stream, file, _BLOCK_BYTES):
            head, newline, tail = block.rpartition(b"\n")
            if not newline:
                unfinished.append(tail)
                continue
            whole = b"".join([*unfinished, head])
            yield LineRun(offset, whole.split(b"\n"))
            offset += len(whole) + 1
            unfinished = [tail] if tail else []
        if unfinished:
            yield LineRun(offset, [b"".join(unfinished)])
