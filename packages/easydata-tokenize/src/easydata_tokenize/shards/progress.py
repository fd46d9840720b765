"""How far the writing of a set has come: what a commit adds, and a line on the terminal that shows it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["OnCommit", "Progress", "progress_bar"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a commit adds.

    Attributes:
        source_rows: rows read of the source.
        rows: rows written.
        tokens: tokens in them.
    """

    source_rows: int
    rows: int
    tokens: int


OnCommit: TypeAlias = Callable[[Progress], None]
"""Is called with what each commit adds."""


@contextmanager
def progress_bar(
    title: str, source_rows: int | None, *, shown: bool, console: Console | None = None
) -> Iterator[OnCommit]:
    """Yields what is to be called at every commit.

    Args:
        title: What is done.
        source_rows: Rows of the source that are left, for the time left; None = not known.
        shown: Whether to show it, if the console is a terminal.
        console: Where; None = the error stream.
    """
    from rich.console import Console

    console = console or Console(stderr=True)
    if not (shown and console.is_terminal):
        yield lambda progress: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"))
    began, read, rows, tokens = time.monotonic(), 0, 0, 0
    with Bar(*columns, console=console) as bar:
        task = bar.add_task(title, total=source_rows, speed="")

        def on_commit(progress: Progress) -> None:
            nonlocal read, rows, tokens
            read, rows, tokens = read + progress.source_rows, rows + progress.rows, tokens + progress.tokens
            seconds = max(time.monotonic() - began, 1e-9)
            speed = f"{rows / seconds:,.0f} rows/s  {tokens / seconds:,.0f} tokens/s"
            if source_rows and read:
                left = timedelta(seconds=round(seconds * (source_rows - read) / read))
                speed += f"  {left} left"
            bar.update(task, completed=read, speed=speed)

        yield on_commit
