"""Rows of a prompt, a completion and a label as groups, and the mismatched completions that a KL estimate needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from easydel_trainers.data.groups import Group, GroupLayout
from easydel_trainers.data.layout import Arrays, Row
from easydel_trainers.preference.sequences import completion_sequence, shareable

UnpairedRow = Mapping[str, Any]


def unpaired_groups(rows: Sequence[UnpairedRow]) -> list[Group]:
    """Rows of `prompt_ids`, `completion_ids` and `label` as groups of one sequence."""
    return [
        Group(
            sequences=(completion_sequence(row["prompt_ids"], row["completion_ids"]),),
            values={"label": float(bool(row["label"]))},
            prompt=shareable(row["prompt_ids"]),
        )
        for row in rows
    ]


def partner_groups(rows: Sequence[UnpairedRow], *, max_length: int | None) -> list[Group]:
    """For every row of a step its prompt with another row's completion, as groups of one sequence.

    The completion is that of the row before, the first row's that of the last; rows of the same source row (a pair's
    two halves) are skipped. A row for which none is left has an empty sequence and a `partner` of 0.

    Args:
        rows: all rows of the step.
        max_length: completions are cut so that no sequence is longer. `None` = never.
    """
    return [_partner_group(rows, number, max_length) for number in range(len(rows))]


@dataclass(frozen=True, kw_only=True, slots=True)
class PartneredLayout:
    """A layout with a second batch, `partners`, of equally long bins: the mismatched sequences.

    Attributes:
        layout: of the rows themselves.
        max_length: see `partner_groups`.
    """

    layout: GroupLayout
    max_length: int | None

    def arrange(self, rows: Sequence[Row]) -> Arrays:
        """What `GroupLayout.arrange` gives, and the same of the mismatched sequences under `partners`."""
        arrays = self.layout.arrange(rows)
        groups = partner_groups(rows, max_length=self.max_length)
        groups = groups if self.layout.complete is None else self.layout.complete(groups)
        partners = self.layout.arrange_groups(groups, at_least=arrays["input_ids"].shape[-1])
        if partners["input_ids"].shape != arrays["input_ids"].shape:
            # One length for both, so that lengths do not multiply into shapes to compile.
            arrays = self.layout.arrange(rows, at_least=partners["input_ids"].shape[-1])
        return {**arrays, "partners": partners}

    def padded(self, rows: Sequence[Row]) -> Arrays:
        """See `GroupLayout`: the rows themselves."""
        return self.layout.padded(rows)


def _partner_group(rows: Sequence[UnpairedRow], number: int, max_length: int | None) -> Group:
    prompt, partner = rows[number]["prompt_ids"], _partner(rows, number)
    if partner is None:
        return Group(sequences=(completion_sequence([], []),), values={"partner": 0.0})
    completion = partner["completion_ids"]
    if max_length is not None:
        completion = completion[: max_length - len(prompt)]
    sequence = completion_sequence(prompt, completion)
    return Group(sequences=(sequence,), values={"partner": 1.0}, prompt=shareable(prompt))


def _partner(rows: Sequence[UnpairedRow], number: int) -> UnpairedRow | None:
    own = rows[number].get("source_row")
    for back in range(1, len(rows)):
        candidate = rows[number - back]
        if own is None or candidate.get("source_row") != own:
            return candidate
    return None
