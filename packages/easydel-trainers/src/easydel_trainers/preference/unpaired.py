"""Rows of a prompt, a completion and a label as step rows, and the mismatched completions that a KL estimate needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from easydel_trainers.data.layout import Arrays, Row
from easydel_trainers.data.step_rows import SequenceLayout, StepRow
from easydel_trainers.preference.sequences import completion_sequence, shareable

UnpairedRow = Mapping[str, Any]


def unpaired_step_rows(rows: Sequence[UnpairedRow]) -> list[StepRow]:
    """Returns rows of `prompt_ids`, `completion_ids` and `label` as step rows of one sequence."""
    return [
        StepRow(
            sequences=(completion_sequence(row["prompt_ids"], row["completion_ids"]),),
            values={"label": float(bool(row["label"]))},
            prompt=shareable(row["prompt_ids"]),
        )
        for row in rows
    ]


def partner_step_rows(rows: Sequence[UnpairedRow], *, max_length: int | None) -> list[StepRow]:
    """For every row of a step its prompt with another row's completion, as step rows of one sequence.

    The completion is that of the row before, the first row's that of the last; rows of the same source row (a pair's
    two halves) are skipped. A row for which none is left has an empty sequence and a `partner` of 0.

    Args:
        rows: all rows of the step.
        max_length: completions are cut so that no sequence is longer. `None` = never.
    """
    return [_partner_step_row(rows, number, max_length) for number in range(len(rows))]


@dataclass(frozen=True, kw_only=True, slots=True)
class PartneredLayout:
    """A layout with a second batch, `partners`, of equally long bins: the mismatched sequences.

    Attributes:
        layout: of the rows themselves.
        max_length: see `partner_step_rows`.
    """

    layout: SequenceLayout
    max_length: int | None

    def arrange(self, rows: Sequence[Row]) -> Arrays:
        """Returns what `SequenceLayout.arrange` gives, and the same of the mismatched sequences under `partners`."""
        arrays = self.layout.arrange(rows)
        step_rows = partner_step_rows(rows, max_length=self.max_length)
        step_rows = step_rows if self.layout.complete is None else self.layout.complete(step_rows)
        partners = self.layout.arrange_step_rows(step_rows, at_least=arrays["input_ids"].shape[-1])
        if partners["input_ids"].shape != arrays["input_ids"].shape:
            # One length for both, so that lengths do not multiply into shapes to compile.
            arrays = self.layout.arrange(rows, at_least=partners["input_ids"].shape[-1])
        return {**arrays, "partners": partners}

    def padded(self, rows: Sequence[Row]) -> Arrays:
        """See `SequenceLayout`: the rows themselves."""
        return self.layout.padded(rows)


def _partner_step_row(rows: Sequence[UnpairedRow], number: int, max_length: int | None) -> StepRow:
    prompt, partner = rows[number]["prompt_ids"], _partner(rows, number)
    if partner is None:
        return StepRow(sequences=(completion_sequence([], []),), values={"partner": 0.0})
    completion = partner["completion_ids"]
    if max_length is not None:
        completion = completion[: max_length - len(prompt)]
    sequence = completion_sequence(prompt, completion)
    return StepRow(sequences=(sequence,), values={"partner": 1.0}, prompt=shareable(prompt))


def _partner(rows: Sequence[UnpairedRow], number: int) -> UnpairedRow | None:
    own = rows[number].get("source_row")
    for back in range(1, len(rows)):
        candidate = rows[number - back]
        if own is None or candidate.get("source_row") != own:
            return candidate
    return None
