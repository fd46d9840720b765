"""What commands print, on its way out: secrets are hidden, and what rows, names and servers say is shown, not obeyed.

Secrets are hidden everywhere. Where nobody's terminal is at the other end, control characters are escaped as well: a
row, a name or a server must not move the cursor of whoever looks at the output later. On a terminal our own colours and
progress lines need them; there a console escapes foreign text before it adds its own.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast, final

from easydata_sources.safe_text import printable, without_secrets
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.segment import Segment


def harmless_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Returns a console that escapes control characters of what it prints; its own colours stay."""
    console = Console(stderr=stderr, quiet=quiet)
    console.push_render_hook(_Escaping())
    return console


def print_json(value: Any) -> None:
    """Prints one line of JSON; numbers that are none (NaN, infinities) become null, as JSON has no word for them."""
    # Escaped here rather than on the way out, where a backslash would be no JSON.
    text = json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)
    print("".join(character if character.isprintable() else json.dumps(character)[1:-1] for character in text))


class ReaderGoneError(Exception):
    """Whoever read the output has closed it."""


@final
class GuardedStream:
    """A text stream whose text is made harmless on its way.

    Args:
        stream: where it goes.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._on_terminal = stream.isatty()

    def write(self, text: str) -> int:
        """Writes a text; returns its length, as it was given.

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
        """Writes several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Hands on what is held back.

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
    """Guards standard output and standard error inside the block."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, GuardedStream(stream)) for stream in before)
    try:
        yield
        sys.stdout.flush()
    finally:
        sys.stdout, sys.stderr = before


@final
class _Escaping(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Escaped(renderable) for renderable in renderables]


@final
class _Escaped:
    def __init__(self, renderable: ConsoleRenderable):
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        return self._segments(console.render(self._renderable, options))

    @staticmethod
    def _segments(segments: Iterable[Segment]) -> Iterable[Segment]:
        for segment in segments:
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
