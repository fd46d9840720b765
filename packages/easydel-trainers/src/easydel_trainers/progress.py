"""The progress bar: steps, loss, speed, time left."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class ProgressBar:
    """A bar on standard error, or nothing. Use as a context manager.

    Args:
        shown: whether to draw; `None` = only if standard error is a terminal.
        total: steps of the run; `None` = unknown.
        done: steps taken before.
    """

    def __init__(self, *, shown: bool | None, total: int | None, done: int = 0):
        shown = sys.stderr.isatty() if shown is None else shown
        self._total, self._done = total, done
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not shown,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> ProgressBar:
        """Draw it."""
        self._progress.start()
        self._task = self._progress.add_task("training", total=self._total, completed=self._done, numbers="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""
        self._progress.stop()

    def step(self) -> None:
        """One step was taken."""
        assert self._task is not None
        self._progress.advance(self._task)

    def show(self, record: Mapping[str, float]) -> None:
        """Show the numbers of a log record."""
        assert self._task is not None
        text = f"loss {record['loss']:.4f}  {record['tokens_per_second']:,.0f} tokens/s"
        self._progress.update(self._task, numbers=text)
