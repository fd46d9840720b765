"""Standard output and error while a command runs: what goes out passes through one filter.

Secrets are hidden everywhere. Where nobody's terminal is at the other end, control characters are escaped as well: a
row, a name or a server must not move the cursor of whoever looks at the output later. On a terminal our own colours and
progress lines need them; there `easydata_sources.shown.printable` is applied to foreign text before it is printed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from easydata_sources.shown import printable, without_secrets


class ReaderGoneError(Exception):
    """Whoever read the output has closed it."""


class GuardedStream:
    """A text stream whose text is made harmless on its way. Final.

    Args:
        stream: where it goes.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._on_terminal = stream.isatty()

    def write(self, text: str) -> int:
        """Write a text; returns its length, as it was given.

        Raises:
            ReaderGoneError: if nobody reads on. (A `BrokenPipeError` is taken by rich for its own end.)
        """
        harmless = without_secrets(text)
        if not self._on_terminal:
            # The end of a line on some systems, and what a progress line begins with.
            harmless = "\r".join(map(printable, harmless.split("\r")))
        try:
            self._stream.write(harmless)
        except BrokenPipeError as error:
            raise ReaderGoneError from error
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Hand on what is held back.

        Raises:
            ReaderGoneError: if nobody reads on.
        """
        try:
            self._stream.flush()
        except BrokenPipeError as error:
            raise ReaderGoneError from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def guarded_streams() -> Iterator[None]:
    """Guard standard output and standard error inside the block."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, GuardedStream(stream)) for stream in before)
    try:
        yield
        sys.stdout.flush()
    finally:
        sys.stdout, sys.stderr = before
