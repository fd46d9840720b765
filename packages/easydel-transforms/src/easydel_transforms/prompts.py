"""Trainers that sample answers themselves (GRPO): a prompt as tokens, ready to be continued."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, final

import numpy as np
from easydata_sources.errors import RowError
from easydata_sources.report import DataReport
from easydata_sources.transforms.transform import CountingTransform
from easydata_tokenize import ChatTokenizer, located

from easydel_transforms.answers import AnswerEncoder
from easydel_transforms.labels import TokenView
from easydel_transforms.lengths import LengthBudgets
from easydel_transforms.preference_rows import read_prompt
from easydel_transforms.reasons import excerpt

__all__ = ["GRPOPreprocessTransform"]

Row = dict[str, Any]


@final
class GRPOPreprocessTransform(CountingTransform):
    """Turns rows with a prompt into the tokens to continue; every other column stays, for the reward functions.

    The prompt is the row's `prompt` (a string or messages), or what its `chosen` and `rejected` answers begin with.
    Conversations are rendered with the header of the assistant's turn at their end; one that ends in an assistant's
    turn is continued within it.

    Args:
        tokenizer: A fast tokenizer; conversations need its chat template.
        max_length: Other name for `max_prompt_length`, as the transforms of the other trainers have it.
        max_prompt_length: Most tokens of the prompt, which is cut on its left, keeping BOS and system turn. None = no
            limit.
        max_completion_length: Accepted, so that all transforms can be made alike; answers do not exist yet.
        drop_unrendered: Kinds (`reasoning`, `system`, …) that are not counted as `not_rendered/KIND` where the template
            does not print them.
        report: Counter to use; None = a new one.

    Output rows are the row's columns, with `prompt` as the row had it or as it was extracted, and int32 `prompt_ids`.
    Counted are `prompt_truncated`, `dropped_empty` (a prompt without a token) and `not_rendered/KIND`.

    Raises:
        ValueError: If a length is out of range, or both names of the limit are given.
    """

    def __init__(
        self,
        tokenizer: ChatTokenizer,
        max_length: int | None = None,
        max_prompt_length: int | None = None,
        max_completion_length: int | None = None,
        *,
        drop_unrendered: Collection[str] = (),
        report: DataReport | None = None,
    ) -> None:
        if max_length is not None and max_prompt_length is not None and max_completion_length is None:
            raise ValueError(
                f"Only one of `max_length` ({max_length}) and `max_prompt_length` ({max_prompt_length}) can be given: "
                "both limit the prompt."
            )
        limits = LengthBudgets(max_length, max_prompt_length, max_completion_length)
        prompt_limit = limits.max_prompt_length if max_prompt_length is not None else max_length
        self.report = report if report is not None else DataReport()
        self._encoder = AnswerEncoder(tokenizer, LengthBudgets(max_prompt_length=prompt_limit), drop_unrendered)

    def transform_batch(self, rows: Sequence[Row]) -> list[list[Row]]:
        """Returns the row with its prompt's tokens for every row, or an empty list where it was dropped.

        Raises:
            RowError: If a row has no prompt, or it cannot be rendered.
        """
        outputs = self._transform(rows, self.report)
        self.report.check()
        return outputs

    def explain(self, row: Row) -> dict[str, list[TokenView]]:
        """Returns the tokens of the prompt under `prompt`; counts nothing."""
        (outputs,) = self._transform([row], DataReport())
        return {"prompt": self._encoder.views(outputs[0]["prompt_ids"], np.zeros(0, np.int32))} if outputs else {}

    def _transform(self, rows: Sequence[Row], report: DataReport) -> list[list[Row]]:
        report.saw(len(rows))
        read = [located(index, read_prompt, row) for index, row in enumerate(rows)]
        to_encode = {index: prompt[1] for index, prompt in enumerate(read) if isinstance(prompt, tuple)}
        indices = list(to_encode)
        try:
            encoded = dict(zip(indices, self._encoder.encode_prompts(list(to_encode.values())), strict=True))
        except RowError as error:
            error.row_in_batch = indices[error.row_in_batch]
            raise
        outputs: list[list[Row]] = []
        for index, (row, prompt) in enumerate(zip(rows, read, strict=True)):
            whole = encoded[index].input_ids if isinstance(prompt, tuple) else prompt
            for note in encoded[index].notes if isinstance(prompt, tuple) else ():
                report.count(note, example=excerpt(row))
            ids = self._encoder.cut_prompt(whole, to_encode.get(index))
            if len(ids) < len(whole):
                report.count("prompt_truncated", example=excerpt(row))
            if not len(ids):
                report.count("dropped_empty", example=excerpt(row))
            shown = {"prompt": prompt[0]} if isinstance(prompt, tuple) else {}
            outputs.append([{**row, **shown, "prompt_ids": ids}] if len(ids) else [])
        return outputs
