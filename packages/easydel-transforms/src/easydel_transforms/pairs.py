"""Direct preference trainers: a prompt, a chosen and a rejected answer, as tokens.

With SmolLM2's tokenizer `{"prompt": "1 + 1 =", "chosen": " 2", "rejected": " 3"}` becomes

    prompt_ids    33 1232 216 33 446     "1" " +" " " "1" " ="
    chosen_ids    216 34 2               " " "2" "<|im_end|>"
    rejected_ids  216 35 2               " " "3" "<|im_end|>"
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
from easydata_sources.report import DataReport
from easydata_tokenize import located

from easydel_transforms.answers import EncodedAnswers
from easydel_transforms.labels import TokenView
from easydel_transforms.preference_rows import PromptAndAnswers, TokenAnswers, read_pair
from easydel_transforms.preference_transform import PreferenceTransform, Row
from easydel_transforms.reasons import excerpt

__all__ = ["CPOPreprocessTransform", "DPOPreprocessTransform", "ORPOPreprocessTransform"]


class _PairTransform(PreferenceTransform):
    """Turns preference rows into prompt, chosen and rejected tokens.

    Rows have `chosen` and `rejected` (strings or messages) and may have `prompt`; without it the prompt is what both
    answers begin with. `tools` and `chat_template_kwargs` reach the chat template. Rows of `chosen_ids` and
    `rejected_ids` (and `prompt_ids`) pass through, cut to the same lengths.

    Args:
        tokenizer: A fast tokenizer; conversations need its chat template.
        max_length: Most tokens of prompt and one answer together. None = the sum of the two budgets, or no limit.
        max_prompt_length: Most tokens of the prompt, which is cut on its left, keeping BOS and system turn.
        max_completion_length: Most tokens of an answer, which is cut on its right.
        keep_stop_token: Whether an answer that is cut keeps its stop token and loses the tokens before.
        drop_unrendered: Kinds (`reasoning`, `system`, …) that are not counted as `not_rendered/KIND` where the template
            does not print them.
        report: Counter to use; None = a new one.

    Output rows are int32 `prompt_ids`, `chosen_ids`, `rejected_ids`; the tokens after the prompt are exactly what is
    trained. Counted are `prompt_truncated`, `completion_truncated`, `dropped_prompt_too_long` (it fills `max_length`),
    `dropped_empty` (an answer without a token), `identical_pair`, and the notes of `easydata_tokenize.EncodedRow`.

    Raises:
        ValueError: If a length is out of range, or the budgets exceed `max_length`.
    """

    def explain(self, row: Row) -> dict[str, list[TokenView]]:
        """Returns the tokens of the two rows a model would read, `chosen` and `rejected`; counts nothing.

        A row that would be dropped gives an empty dict.
        """
        (outputs,) = self._transform([row], DataReport())
        return {name: self._view(outputs[0], name) for name in ("chosen", "rejected")} if outputs else {}

    def _transform(self, rows: Sequence[Row], report: DataReport) -> list[list[Row]]:
        report.saw(len(rows))
        pairs = [located(index, read_pair, row) for index, row in enumerate(rows)]
        encoded = self._encoder.encode(pairs)
        return [self._finish(pair, tokens, row, report) for pair, tokens, row in zip(pairs, encoded, rows, strict=True)]

    def _finish(
        self, pair: PromptAndAnswers | TokenAnswers, tokens: EncodedAnswers, row: Row, report: DataReport
    ) -> list[Row]:
        example = pair.answers[0] if isinstance(pair, PromptAndAnswers) else None
        cut = self._encoder.cut(tokens, example)
        reason = "dropped_prompt_too_long" if cut is None else None
        if cut is not None and not all(len(answer) for answer in cut.answers):
            reason = "dropped_empty"
        if cut is None or reason:
            report.count(reason or "", example=excerpt(row))
            return []
        chosen, rejected = cut.answers
        notes = [*cut.notes, *(["identical_pair"] if np.array_equal(chosen, rejected) else [])]
        for note in notes:
            report.count(note, example=excerpt(row))
        return [{"prompt_ids": cut.prompt, "chosen_ids": chosen, "rejected_ids": rejected}]

    def _view(self, output: Row, name: str) -> list[TokenView]:
        return self._encoder.views(output["prompt_ids"], output[f"{name}_ids"])


@final
class DPOPreprocessTransform(_PairTransform):
    __doc__ = _PairTransform.__doc__


@final
class ORPOPreprocessTransform(_PairTransform):
    __doc__ = _PairTransform.__doc__


@final
class CPOPreprocessTransform(_PairTransform):
    __doc__ = _PairTransform.__doc__
