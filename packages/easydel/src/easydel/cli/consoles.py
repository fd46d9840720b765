"""Consoles whose tables and panels may hold what rows, names and servers say: it is shown, and not obeyed."""

from __future__ import annotations

from collections.abc import Iterable

from easydata_sources.shown import printable
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.segment import Segment


def harmless_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A console that escapes control characters of what it prints; its own colours stay."""
    console = Console(stderr=stderr, quiet=quiet)
    console.push_render_hook(_Escaping())
    return console


class _Escaping(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Escaped(renderable) for renderable in renderables]


class _Escaped:
    def __init__(self, renderable: ConsoleRenderable):
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        return self._segments(console.render(self._renderable, options))

    @staticmethod
    def _segments(segments: Iterable[Segment]) -> Iterable[Segment]:
        for segment in segments:
            yield segment if segment.control else Segment(printable(segment.text), segment.style)
