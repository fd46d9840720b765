"""The progress bar: steps, loss and its course so far, speed, time left; lines of text where there is no terminal."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 24  # of the sparkline


def sparkline(values: Sequence[float], *, width: int = _WIDTH) -> str:
    """Returns the course of some values in one line of text, the last `width` means of equal shares of them.

    >>> sparkline([4, 3, 2, 1])
    '█▆▃▁'
    """
    finite = [value for value in values if math.isfinite(value)]
    share = max(1, math.ceil(len(finite) / width))
    means = [sum(part) / len(part) for part in (finite[at : at + share] for at in range(0, len(finite), share))]
    if not means:
        return ""
    low, span = min(means), (max(means) - min(means)) or 1.0
    return "".join(_BARS[round((mean - low) / span * (len(_BARS) - 1))] for mean in means)


class ProgressBar:
    """A bar on standard error, or lines, or nothing. Use as a context manager.

    Args:
        shown: whether to draw; `None` = only if standard error is a terminal, and else write a line for each record.
        total: steps of the run; `None` = unknown.
        done: steps taken before.
    """

    def __init__(self, *, shown: bool | None, total: int | None, done: int = 0):
        self._lines = shown is None and not sys.stderr.isatty()
        shown = sys.stderr.isatty() if shown is None else shown
        self._total, self._done = total, done
        console = Console(stderr=True)
        self._unicode = console.encoding.startswith("utf")
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=not shown,
        )
        self._task: TaskID | None = None
        self._losses: list[float] = []

    def __enter__(self) -> ProgressBar:
        """Draws it."""
        if self._lines and self._done:
            self._write(f"going on behind {self._steps(self._done)}")
        self._progress.start()
        self._task = self._progress.add_task("training", total=self._total, completed=self._done, numbers="", left="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaves the terminal as it was."""
        self._progress.stop()

    def step(self, *, seconds_left: float | None = None) -> None:
        """One step was taken; so much time is left, if that is known."""
        assert self._task is not None
        left = "" if seconds_left is None else f"left {timedelta(seconds=round(seconds_left))}"
        self._progress.update(self._task, advance=1, left=left)

    @property
    def shown(self) -> bool:
        """Whether anyone sees it."""
        return not self._progress.disable

    def print(self, text: RenderableType) -> None:
        """Prints something above it."""
        self._progress.console.print(text)

    def show(self, record: Mapping[str, float]) -> None:
        """Shows the numbers of a log record."""
        assert self._task is not None
        if self._lines:
            self._write(f"{self._steps(int(record['step']))}: loss {record['loss']:.4f}{_speed(record, ', ')}")
        self._losses.append(record["loss"])
        line = sparkline(self._losses) if self._unicode else ""
        text = f"loss {record['loss']:.4f} {line}{_speed(record, '  ')}"
        self._progress.update(self._task, numbers=text)

    def show_evaluation(self, record: Mapping[str, float]) -> None:
        """Shows what was measured on held-out rows, where there are lines."""
        if self._lines:
            figures = ", ".join(f"{name} {value:.4g}" for name, value in record.items() if name != "step")
            self._write(f"{self._steps(int(record['step']))}: {figures}")

    def _steps(self, step: int) -> str:
        return f"step {step}" if self._total is None else f"step {step} of {self._total}"

    def _write(self, text: str) -> None:
        sys.stderr.write(f"training: {text}\n")
        sys.stderr.flush()


def _speed(record: Mapping[str, float], before: str) -> str:
    """Nothing where every step since the last record compiled."""
    speed = record.get("tokens_per_second")
    return "" if speed is None else f"{before}{speed:,.0f} tokens/s"
