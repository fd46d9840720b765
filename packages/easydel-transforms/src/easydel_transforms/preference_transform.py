"""What the transforms of preference rows share: lengths, a report, and batches through one tokenizer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import Any

from easydata_sources.report import DataReport
from easydata_sources.transforms.transform import CountingTransform
from easydata_tokenize import ChatTokenizer

from easydel_transforms.answers import AnswerEncoder
from easydel_transforms.lengths import LengthBudgets

__all__ = ["PreferenceTransform", "Row"]

Row = dict[str, Any]


class PreferenceTransform(CountingTransform):
    """Turns rows of answers into tokens. Abstract: a transform says what becomes of a batch.

    Args:
        tokenizer: A fast tokenizer; conversations need its chat template.
        max_length: Most tokens of prompt and one answer together. None = the sum of the two budgets, or no limit.
        max_prompt_length: Most tokens of the prompt, which is cut on its left, keeping BOS and system turn.
        max_completion_length: Most tokens of an answer, which is cut on its right.
        keep_stop_token: Whether an answer that is cut keeps its stop token and loses the tokens before.
        drop_unrendered: Kinds (`reasoning`, `system`, …) that are not counted as `not_rendered/KIND` where the template
            does not print them.
        report: Counter to use; None = a new one.

    Raises:
        ValueError: If a length is out of range, or the budgets exceed `max_length`.
    """

    def __init__(
        self,
        tokenizer: ChatTokenizer,
        max_length: int | None = None,
        max_prompt_length: int | None = None,
        max_completion_length: int | None = None,
        *,
        keep_stop_token: bool = False,
        drop_unrendered: Collection[str] = (),
        report: DataReport | None = None,
    ) -> None:
        budgets = LengthBudgets(max_length, max_prompt_length, max_completion_length, keep_stop_token)
        self.report = report if report is not None else DataReport()
        self._encoder = AnswerEncoder(tokenizer, budgets, drop_unrendered)

    def transform_batch(self, rows: Sequence[Row]) -> list[list[Row]]:
        """Returns the tokenized rows for every row, none where it was dropped.

        Raises:
            RowError: If a row has no known layout or cannot be rendered.
            DataQualityError: If more rows are lost or altered than `report` allows.
        """
        outputs = self._transform(rows, self.report)
        self.report.check()
        return outputs

    @abstractmethod
    def _transform(self, rows: Sequence[Row], report: DataReport) -> list[list[Row]]:
        """Returns the tokenized rows for every row, counted in `report`."""
