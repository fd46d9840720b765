"""Reward modelling: a chosen and a rejected answer to score, with their prompt, as tokens."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, final

import numpy as np
from easydata_sources.errors import DataFormatError
from easydata_sources.report import DataReport
from easydata_sources.transforms.transform import CountingTransform
from easydata_tokenize import ChatTokenizer, located

from easydel_transforms.answers import AnswerEncoder, EncodedAnswers
from easydel_transforms.labels import TokenView
from easydel_transforms.lengths import LengthBudgets
from easydel_transforms.preference_rows import read_pair
from easydel_transforms.reasons import excerpt

__all__ = ["RewardPreprocessTransform"]

Row = dict[str, Any]


@final
class RewardPreprocessTransform(CountingTransform):
    """Turns preference rows into the tokens of two answers to score.

    Rows are those of the other preference trainers, and may have a `margin`: by how much the chosen answer is better.
    A row of which either answer is too long is dropped, never cut: a score of half an answer teaches nothing.

    Args:
        tokenizer: A fast tokenizer; conversations need its chat template.
        max_length: Most tokens of prompt and one answer together. None = no limit.
        drop_unrendered: Kinds (`reasoning`, `system`, …) that are not counted as `not_rendered/KIND` where the template
            does not print them.
        report: Counter to use; None = a new one.

    Output rows are int32 `prompt_ids`, `chosen_ids`, `rejected_ids`, and `margin` (float) if the row has one. Counted
    are `dropped_too_long`, `dropped_empty`, `identical_pair`, and the notes of `easydata_tokenize.EncodedRow`.

    Raises:
        ValueError: If `max_length` is out of range.
    """

    def __init__(
        self,
        tokenizer: ChatTokenizer,
        max_length: int | None = None,
        *,
        drop_unrendered: Collection[str] = (),
        report: DataReport | None = None,
    ) -> None:
        self._max_length = LengthBudgets(max_length).max_length
        self.report = report if report is not None else DataReport()
        self._encoder = AnswerEncoder(tokenizer, LengthBudgets(), drop_unrendered)

    def transform_batch(self, rows: Sequence[Row]) -> list[list[Row]]:
        """Returns the tokenized row for every row, or an empty list where it was dropped.

        Raises:
            RowError: If a row has no known layout or cannot be rendered.
            DataQualityError: If more rows are lost or altered than `report` allows.
        """
        outputs = self._transform(rows, self.report)
        self.report.check()
        return outputs

    def explain(self, row: Row) -> dict[str, list[TokenView]]:
        """Returns the tokens of the two rows a model would score, `chosen` and `rejected`; counts nothing."""
        (outputs,) = self._transform([row], DataReport())
        return {
            name: self._encoder.views(output["prompt_ids"], output[f"{name}_ids"])
            for output in outputs
            for name in ("chosen", "rejected")
        }

    def _transform(self, rows: Sequence[Row], report: DataReport) -> list[list[Row]]:
        report.saw(len(rows))
        encoded = self._encoder.encode([located(index, read_pair, row) for index, row in enumerate(rows)])
        return [
            located(index, self._finish, row, tokens, report)
            for index, (row, tokens) in enumerate(zip(rows, encoded, strict=True))
        ]

    def _finish(self, row: Row, tokens: EncodedAnswers, report: DataReport) -> list[Row]:
        reasons, kept = [*tokens.notes], True
        chosen, rejected = tokens.answers
        longest = len(tokens.prompt) + max(len(chosen), len(rejected))
        if self._max_length is not None and longest > self._max_length:
            reasons, kept = ["dropped_too_long"], False
        elif not all(len(tokens.prompt) + len(answer) for answer in tokens.answers):
            reasons, kept = ["dropped_empty"], False
        elif np.array_equal(chosen, rejected):
            reasons.append("identical_pair")
        for reason in reasons:
            report.count(reason, example=excerpt(row))
        ids = {"prompt_ids": tokens.prompt, "chosen_ids": chosen, "rejected_ids": rejected}
        return [ids if row.get("margin") is None else {**ids, "margin": _margin(row)}] if kept else []


def _margin(row: Row) -> float:
    margin = row["margin"]
    if isinstance(margin, int | float | np.number) and not isinstance(margin, bool) and np.isfinite(margin):
        return float(margin)
    raise DataFormatError(
        "Margin is not a finite number.",
        column="margin",
        found=f"{type(margin).__name__}: {margin!r}"[:80],
        expected="by how much the chosen answer is better, as a number",
        mend='dataset.remove_columns(["margin"]) to train without margins',
    )
