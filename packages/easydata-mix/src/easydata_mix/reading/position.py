"""Positions in a mixture that is being read: one in its plan, and one in each source."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, final

from easydata_mix.plan.steps import PlanPosition

CELL_ROWS = 256
"""Rows between the positions of a source that a saved position may name."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class SourcePosition:
    """A position in a source that is read over and over.

    Sources say where they are only when they are there, so the position is that of the row's cell, the run of
    `CELL_ROWS` rows that it is in, and the rows since. It depends on nothing but the rows given, however they were
    read: hosts that read other rows of the one order save equal positions.
    """

    passes: int = 0
    """Passes finished."""
    row: int = 0
    """Rows given in the present pass."""
    at: dict[str, Any] | None = None
    """The source's own position at the start of the cell; None = the start of the pass."""
    skip: int = 0
    """Rows to step over after `at`."""

    @property
    def cell_end(self) -> int:
        """Rows after `at` at which the next cell begins."""
        return (self.skip // CELL_ROWS + 1) * CELL_ROWS

    def moved(self, rows: int) -> SourcePosition:
        """Returns the position `rows` rows further on in the same cell."""
        return replace(self, row=self.row + rows, skip=self.skip + rows)

    def crossed(self, rows: int, at: dict[str, Any]) -> SourcePosition:
        """Returns the position `rows` rows further on, where a cell begins that the source calls `at`."""
        return SourcePosition(passes=self.passes, row=self.row + rows, at=at)

    def to_dict(self) -> dict[str, Any]:
        """Returns the position as plain JSON types."""
        return {"pass": self.passes, "row": self.row, "at": self.at, "skip": self.skip}

    @classmethod
    def from_dict(cls, entry: dict[str, Any]) -> SourcePosition:
        """Returns the position of a saved state."""
        return cls(passes=entry["pass"], row=entry["row"], at=entry["at"], skip=entry["skip"])


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class MixturePosition:
    """A position in a mixture that is being read."""

    plan: PlanPosition
    """Position in the plan."""
    sources: tuple[SourcePosition, ...]
    """Position in each source, at which reading goes on."""
