"""Trainers on single answers, good or bad (KTO, BCO): a prompt, an answer, a label, as tokens.

With SmolLM2's tokenizer `{"prompt": "1 + 1 =", "completion": " 2", "label": True}` becomes

    prompt_ids      33 1232 216 33 446     "1" " +" " " "1" " ="
    completion_ids  216 34 2               " " "2" "<|im_end|>"
    label           True
    source_row      a number that tells rows apart
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import final

from easydata_sources.errors import RowError
from easydata_sources.report import DataReport
from easydata_tokenize import located

from easydel_transforms.answers import EncodedAnswers
from easydel_transforms.labels import TokenView
from easydel_transforms.preference_rows import PromptAndAnswers, read_unpaired
from easydel_transforms.preference_transform import PreferenceTransform, Row
from easydel_transforms.reasons import excerpt

__all__ = ["BCOPreprocessTransform", "KTOPreprocessTransform"]


class _UnpairedTransform(PreferenceTransform):
    """Turns labelled answers, or pairs of them, into prompt and completion tokens with a label.

    Rows have `prompt`, `completion` and `label`, or `chosen` and `rejected` (with or without `prompt`); a pair becomes
    two rows side by side, the chosen one first. `tools` and `chat_template_kwargs` reach the chat template. Rows of
    `prompt_ids`, `completion_ids` and `label` pass through, cut to the same lengths.

    Args:
        tokenizer: A fast tokenizer; conversations need its chat template.
        max_length: Most tokens of prompt and completion together. None = the sum of the two budgets, or no limit.
        max_prompt_length: Most tokens of the prompt, which is cut on its left, keeping BOS and system turn.
        max_completion_length: Most tokens of the completion, which is cut on its right.
        keep_stop_token: Whether a completion that is cut keeps its stop token and loses the tokens before.
        drop_unrendered: Kinds (`reasoning`, `system`, …) that are not counted as `not_rendered/KIND` where the template
            does not print them.
        report: Counter to use; None = a new one.

    Output rows are int32 `prompt_ids` and `completion_ids`, `label` (bool), and `source_row`: an int64 that is the same
    for the two halves of a pair and otherwise differs. Counted are `prompt_truncated`, `completion_truncated`,
    `dropped_prompt_too_long`, `dropped_empty`, and the notes of `easydata_tokenize.EncodedRow`.

    Raises:
        ValueError: If a length is out of range, or the budgets exceed `max_length`.
    """

    def explain(self, row: Row) -> dict[str, list[TokenView]]:
        """Returns the tokens that a model would read, under `good` and `bad`; counts nothing."""
        (outputs,) = self._transform([row], DataReport())
        return {
            "good" if output["label"] else "bad": self._encoder.views(output["prompt_ids"], output["completion_ids"])
            for output in outputs
        }

    def _transform(self, rows: Sequence[Row], report: DataReport) -> list[list[Row]]:
        report.saw(len(rows))
        read = [located(index, read_unpaired, row) for index, row in enumerate(rows)]
        owners = [index for index, answers in enumerate(read) for _ in answers]
        labelled = [answer for answers in read for answer in answers]
        try:
            encoded = self._encoder.encode([answer for answer, _ in labelled])
        except RowError as error:
            error.row_in_batch = owners[error.row_in_batch]
            raise
        sources = _source_rows(owners, encoded, len(rows))
        outputs: list[list[Row]] = [[] for _ in rows]
        for owner, (answer, label), tokens in zip(owners, labelled, encoded, strict=True):
            cut = self._encoder.cut(tokens, answer.answers[0] if isinstance(answer, PromptAndAnswers) else None)
            for reason in _reasons(cut):
                report.count(reason, example=excerpt(rows[owner]))
            if cut is not None and len(cut.answers[0]):
                ids = {"prompt_ids": cut.prompt, "completion_ids": cut.answers[0]}
                outputs[owner].append({**ids, "label": label, "source_row": _source_row(rows[owner], sources[owner])})
        return outputs


@final
class KTOPreprocessTransform(_UnpairedTransform):
    __doc__ = _UnpairedTransform.__doc__


@final
class BCOPreprocessTransform(_UnpairedTransform):
    __doc__ = _UnpairedTransform.__doc__


def _reasons(cut: EncodedAnswers | None) -> Sequence[str]:
    if cut is None:
        return ("dropped_prompt_too_long",)
    return cut.notes if len(cut.answers[0]) else ("dropped_empty",)


def _source_rows(owners: Sequence[int], encoded: Sequence[EncodedAnswers], rows: int) -> list[int]:
    """Returns a fingerprint of each source row: a transform sees rows, not their numbers."""
    digests = [hashlib.blake2b(digest_size=8) for _ in range(rows)]
    for owner, tokens in zip(owners, encoded, strict=True):
        for ids in (tokens.prompt, *tokens.answers):
            digests[owner].update(ids.tobytes())
            digests[owner].update(b"/")
    return [int.from_bytes(digest.digest(), "big", signed=True) for digest in digests]


def _source_row(row: Row, fingerprint: int) -> int:
    """Returns the number that an earlier run gave the row, so that halves of a pair stay known as such on disk."""
    known = row.get("source_row") if row.get("completion_ids") is not None else None
    return fingerprint if known is None else int(known)
