"""The journal of weight edits: what was changed during a run, and from which row on.

An edit is part of the data order, so it is written down with the row it takes effect at and travels in the saved
state. Restoring the state, or starting again with the same journal, replays the run exactly.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from easydata_mix.errors import MixtureError
from easydata_mix.plan.types import Shares
from easydata_mix.plan.weights import exact_shares, named


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightEdit:
    """New weights from a row on, until the next edit; they replace weights and schedule alike."""

    from_row: int
    """Global index of the first row drawn by the new weights."""
    weights: Mapping[str, float]
    """One weight per source, as the user gave them."""

    def to_dict(self) -> dict[str, Any]:
        """Returns the edit as plain JSON types."""
        return {"from_row": self.from_row, "weights": dict(self.weights)}


class Journal:
    """The edits of one mixture in order of their rows, and how far its streams have already planned."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._edits: list[WeightEdit] = []
        self._rows: list[int] = []
        self.planned_rows = 0
        """Rows whose order is settled because a stream has planned them; edits must start at or after this."""

    def add(self, from_row: int, weights: Mapping[str, float]) -> WeightEdit:
        """Writes an edit down.

        Raises:
            MixtureError: If the weights do not fit the sources, the row was planned already, or has another edit.
        """
        if from_row < self.planned_rows:
            raise MixtureError(
                f"Weights cannot change at row {from_row}: the order is already settled up to row "
                f"{self.planned_rows}. Use from_row={self.planned_rows} or later, or from_row=None for the first "
                "row possible."
            )
        return self._insert(from_row, weights)

    def edits_before(self, row: int) -> int:
        """Returns how many edits are in force at a row."""
        return bisect_right(self._rows, row)

    def next_row(self, row: int) -> int | None:
        """Returns the row of the first edit after `row`; None if there is none."""
        index = bisect_right(self._rows, row)
        return self._rows[index] if index < len(self._rows) else None

    def shares(self, edits: int) -> Shares:
        """Returns the shares set by the last of the first `edits` edits (>= 1)."""
        return exact_shares(self._edits[edits - 1].weights, self._names)

    def to_list(self) -> list[dict[str, Any]]:
        """Returns the edits as plain JSON types."""
        return [edit.to_dict() for edit in self._edits]

    def replay(self, entries: Sequence[Mapping[str, Any]], row: int) -> None:
        """Takes over the edits of a saved state at `row`; edits already written down must not contradict them.

        Raises:
            MixtureError: If the two journals would give different orders before `row` or weights at one row.
        """
        saved = {entry["from_row"] for entry in entries}
        early = [edit for edit in self._edits if edit.from_row < row and edit.from_row not in saved]
        if early:
            raise MixtureError(
                f"The saved state at row {row} knows nothing of the weight edit at row {early[0].from_row}. "
                "Restore it into a mixture without that edit, or edit from a later row."
            )
        for entry in entries:
            self._insert(entry["from_row"], entry["weights"])

    def _insert(self, from_row: int, weights: Mapping[str, float]) -> WeightEdit:
        edit = WeightEdit(from_row=from_row, weights=named(weights, self._names))
        exact_shares(edit.weights, self._names)
        if from_row in self._rows:
            present = self._edits[self._rows.index(from_row)]
            if present != edit:
                raise MixtureError(
                    f"Row {from_row} has the weights {dict(present.weights)} already and cannot also have "
                    f"{dict(edit.weights)}. Edit from another row."
                )
            return present
        insort(self._edits, edit, key=lambda known: known.from_row)
        insort(self._rows, from_row)
        return edit
