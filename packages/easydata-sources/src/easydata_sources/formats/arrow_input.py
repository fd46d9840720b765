"""Files that Arrow reads: its failures on damaged bytes are told from failures to get the bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from easydata_sources.errors import DataFormatError
from easydata_sources.storage.files import DataFile

if TYPE_CHECKING:
    import pyarrow as pa


class WatchedFile:
    """A file that knows whether reading it failed: Arrow raises the system's types of error for its own findings.

    Args:
        raw: The file.
    """

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self.failed = False

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._raw.closed

    def read(self, size: int = -1) -> bytes:
        """Returns up to `size` bytes."""
        return self._noted(self._raw.read, size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Goes to a byte and returns its number."""
        return self._noted(self._raw.seek, offset, whence)

    def tell(self) -> int:
        """Returns the number of the next byte."""
        return self._raw.tell()

    def close(self) -> None:
        """Closes the file below."""
        self._raw.close()

    def _noted(self, function: Any, *arguments: int) -> Any:
        try:
            return function(*arguments)
        except Exception:
            self.failed = True
            raise


@dataclass(frozen=True, kw_only=True, slots=True)
class ArrowFormat:
    """What a file should be that Arrow reads."""

    name: str
    mend: str
    """What to do with a file that is damaged."""


class ArrowInput:
    """A file open for Arrow.

    Args:
        file: The file.
        handle: What Arrow reads.
        expected: What it should be.
        watched: The file below, if Arrow reads it through Python.
    """

    def __init__(
        self, file: DataFile, handle: pa.NativeFile, expected: ArrowFormat, watched: WatchedFile | None
    ) -> None:
        self.handle = handle
        self._file = file
        self._format = expected
        self._watched = watched

    def damage(self, error: Exception) -> DataFormatError | None:
        """Returns the error for bytes that make no sense; None if they could not be got."""
        if getattr(error, "errno", None) is not None or (self._watched is not None and self._watched.failed):
            return None
        size = self._file.size()
        said = " ".join(str(error).split())[:300] or type(error).__name__
        return DataFormatError(
            f"The file cannot be read as {self._format.name}.",
            file=self._file.name,
            found="an empty file (0 bytes)" if size == 0 else f"{size} bytes; {said}",
            expected=f"a complete {self._format.name} file",
            mend=self._format.mend,
            reason="damaged_file",
        )


@contextmanager
def arrow_input(file: DataFile, expected: ArrowFormat, *, in_ranges: bool = False) -> Iterator[ArrowInput]:
    """Opens a file for Arrow, which reads local ones without holding Python's lock.

    Local files are not mapped: a mapped file that somebody shortens ends the process.

    Args:
        file: The file.
        expected: What it should be.
        in_ranges: Fetch just what is asked for, where clients would fetch blocks of many megabytes: for formats whose
            reader knows what it needs.

    Raises:
        DataFormatError: If Arrow cannot make sense of the bytes inside the block; reason `damaged_file`.
    """
    import pyarrow as pa

    watched = WatchedFile(file.open(**({"cache_type": "none"} if in_ranges else {}))) if file.remote else None
    with pa.OSFile(file.url) if watched is None else pa.PythonFile(watched, mode="r") as handle:
        opened = ArrowInput(file, handle, expected, watched)
        try:
            yield opened
        except damage_errors() as error:
            damage = None if isinstance(error, DataFormatError) else opened.damage(error)
            if damage is None:
                raise
            raise damage from error


def damage_errors() -> tuple[type[Exception], ...]:
    """Returns what Arrow raises on bytes that make no sense."""
    import pyarrow as pa

    return (pa.ArrowException, OSError, UnicodeError, OverflowError, MemoryError, LookupError)
