"""StackedTransform: the transforms of several stages, applied to the same windows of rows.

What a transform that mixes rows makes of a row depends on its window. Were windows counted in the rows that other
stages have left, the hosts' shares, which are shares of the rows read, would hold other windows than the whole. So
such a transform takes the stages below it along, and its windows are windows of the rows below them all. Of several
such transforms each keeps its own windows; those of a higher one are rounded up to hold whole ones of the lower.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import final

from easydata_sources.bad_rows.bad_row import BadRow
from easydata_sources.bad_rows.policy import SetAside, apply_marking
from easydata_sources.errors import RowError
from easydata_sources.report import DataReport
from easydata_sources.transforms.transform import (
    ChainedTransform,
    CountingTransform,
    TransformLike,
    apply_to_groups,
    apply_transform,
    batch_rows,
    mixes_rows,
)
from easydata_sources.types import Origin, Row


@dataclass(frozen=True, slots=True)
class Stage:
    """One transform, and whether it leaves a `BadRow` for each row that it cannot handle."""

    transform: TransformLike
    marks: bool

    def apply(self, rows: Sequence[Row]) -> list[list[Row]]:
        """Returns the outputs for some rows."""
        # What takes the bad rows out must see them; with it the stage is whole, and its errors are meant for the user.
        first = self.transform.transforms[0] if isinstance(self.transform, ChainedTransform) else self.transform
        if not self.marks or isinstance(first, SetAside):
            return apply_transform(self.transform, rows)
        return apply_marking(self.transform, rows, reports_of(self.transform))


@final
class StackedTransform(ChainedTransform):
    """The transforms of stages, the lowest first; a chain in which every stage treats bad rows in its own way.

    Args:
        stages: The stages.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        super().__init__([stage.transform for stage in stages])
        self.stages = tuple(stages)
        self._windows = _windows(stages)

    @property
    def batch_rows(self) -> int:
        return max(window for window in self._windows if window is not None)

    def marking(self) -> StackedTransform:
        """Returns the same with a `BadRow` for each row that any of the stages cannot handle."""
        return StackedTransform([replace(stage, marks=True) for stage in self.stages])

    def transform_batch(self, rows: Sequence[Row]) -> list[list[Row]]:
        return self.apply(rows)

    def apply(self, rows: Sequence[Row], origin: Callable[[int], Origin] | None = None) -> list[list[Row]]:
        """Returns the outputs for a window of rows.

        Args:
            rows: The window.
            origin: Where row n of it comes from; asked for bad rows.
        """
        groups = [[row] for row in rows]
        for stage, window in zip(self.stages, self._windows, strict=True):
            groups = _apply_by_windows(stage, groups, window or max(1, len(groups)))
            if origin is not None:
                locate(groups, origin)
        return groups


def _windows(stages: Sequence[Stage]) -> list[int | None]:
    """Returns the rows below them all that make a window of each stage; None where a stage has no windows."""
    windows: list[int | None] = []
    largest = 1
    for stage in stages:
        mixes = mixes_rows(stage.transform)
        if mixes:
            largest *= -(-batch_rows(stage.transform) // largest)
        windows.append(largest if mixes else None)
    return windows


def _apply_by_windows(stage: Stage, groups: list[list[Row]], window: int) -> list[list[Row]]:
    applied: list[list[Row]] = []
    for first in range(0, len(groups), window):
        try:
            applied += apply_to_groups(stage.apply, groups[first : first + window])
        except RowError as error:
            error.row_in_batch += first
            raise
    return applied


def reports_of(transform: TransformLike) -> list[DataReport]:
    """Returns the reports that a transform or the parts of a chain count in, each once."""
    parts = transform.transforms if isinstance(transform, ChainedTransform) else (transform,)
    reports = [part.report for part in parts if isinstance(part, CountingTransform | SetAside)]
    return list({id(report): report for report in reports}.values())


def locate(outputs: Sequence[Sequence[Row]], origin: Callable[[int], Origin]) -> None:
    """Tells the rows that a transform has just found bad where they come from."""
    for index, rows in enumerate(outputs):
        for row in rows:
            if isinstance(row, BadRow) and isinstance(row.error, RowError) and row.error.file is None:
                file, number = origin(index)
                row.error = row.error.located(file=file, row=number)
