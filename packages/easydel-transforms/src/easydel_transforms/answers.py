"""From examples that share a prompt to tokens: one prompt, and each answer's tokens behind it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from easydata_sources.errors import RowError
from easydata_tokenize import ChatExample, ChatTokenizer, EncodedRow, RowEncoder, TextExample, common_prefix
from numpy.typing import NDArray

from easydel_transforms.labels import TokenView
from easydel_transforms.lengths import LengthBudgets
from easydel_transforms.preference_rows import PromptAndAnswers, TokenAnswers

__all__ = ["AnswerEncoder", "EncodedAnswers"]

Ids = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class EncodedAnswers:
    """A prompt and its answers in tokens: a row of the model is `prompt + answers[i]`.

    Attributes:
        prompt: int32 `[tokens]`.
        answers: int32 `[tokens]` each.
        notes: what a data report should count, each once.
    """

    prompt: Ids
    answers: tuple[Ids, ...]
    notes: tuple[str, ...]


class AnswerEncoder:
    """Tokenizes prompts and answers, a batch at a time, and cuts them to length.

    Args:
        tokenizer: a fast tokenizer; conversations need its chat template.
        budgets: most tokens of rows, prompts and completions.
        drop_unrendered: kinds of `not_rendered/KIND` that are not noted.
    """

    def __init__(self, tokenizer: ChatTokenizer, budgets: LengthBudgets, drop_unrendered: Collection[str] = ()) -> None:
        self._tokenizer, self._budgets = tokenizer, budgets
        self._encoder = RowEncoder(tokenizer, drop_unrendered=drop_unrendered)

    def encode(self, rows: Sequence[PromptAndAnswers | TokenAnswers]) -> list[EncodedAnswers]:
        """Returns every row in tokens, uncut, in order.

        Raises:
            RowError: If a row cannot be rendered; `row_in_batch` is its index.
        """
        owners = [index for index, row in enumerate(rows) if isinstance(row, PromptAndAnswers) for _ in row.answers]
        examples = [answer for row in rows if isinstance(row, PromptAndAnswers) for answer in row.answers]
        try:
            encoded = iter(self._encoder.encode(examples))
        except RowError as error:
            error.row_in_batch = owners[error.row_in_batch]
            raise
        return [
            EncodedAnswers(row.prompt, row.answers, ())
            if isinstance(row, TokenAnswers)
            else _joined([next(encoded) for _ in row.answers])
            for row in rows
        ]

    def encode_prompts(self, examples: Sequence[TextExample | ChatExample]) -> list[EncodedRow]:
        """Returns every prompt in tokens, ready to be continued, uncut."""
        return self._encoder.encode_prompts(examples)

    def cut(self, encoded: EncodedAnswers, example: TextExample | ChatExample | None) -> EncodedAnswers | None:
        """Returns the row within its budgets; None if the prompt leaves no room for an answer.

        Args:
            encoded: the row.
            example: where it comes from, to find its system turn; None if it came as tokens.
        """
        prompt = self.cut_prompt(encoded.prompt, example)
        notes = list(encoded.notes)
        if len(prompt) < len(encoded.prompt):
            notes.append("prompt_truncated")
        if self._budgets.leaves_no_completion(len(prompt)):
            return None
        stop = self._tokenizer.eos_token_id if self._budgets.keep_stop_token else None
        answers = tuple(self._budgets.completion(answer, len(prompt), stop) for answer in encoded.answers)
        if any(len(cut) < len(whole) for cut, whole in zip(answers, encoded.answers, strict=True)):
            notes.append("completion_truncated")
        return EncodedAnswers(prompt, answers, tuple(notes))

    def cut_prompt(self, ids: Ids, example: TextExample | ChatExample | None) -> Ids:
        """Returns a prompt within its budget: its left side goes, its BOS and system turn stay."""
        limit = self._budgets.max_prompt_length
        if limit is None or len(ids) <= limit:
            return ids
        return self._budgets.prompt(ids, self._front(ids, example))

    def views(self, prompt: Ids, answer: Ids) -> list[TokenView]:
        """Returns the tokens of prompt and answer for people to look at; what is trained is the answer."""
        ids = np.concatenate([prompt, answer]).tolist()
        texts = self._encoder.decode_each(ids)
        return [TokenView(ids[at], text, at >= len(prompt)) for at, text in enumerate(texts)]

    def _front(self, ids: Ids, example: TextExample | ChatExample | None) -> int:
        bos = self._tokenizer.bos_token_id
        front = 1 if bos is not None and len(ids) and ids[0] == bos else 0
        if not isinstance(example, ChatExample):
            return front
        return max(front, common_prefix(self._encoder.encode_opening(example), ids))


def _joined(rows: Sequence[EncodedRow]) -> EncodedAnswers:
    """Returns rows of one prompt, cut where the first of them begins to answer.

    A prompt's last token may melt into an answer's first; what is the prompt is what every row's tokens agree on.
    """
    start = min(row.completion_start or 0 for row in rows)
    notes = dict.fromkeys(note for row in rows for note in row.notes)
    return EncodedAnswers(rows[0].input_ids[:start], tuple(row.input_ids[start:] for row in rows), tuple(notes))
