"""Rows with answers to prefer or to avoid, in any of the layouts people use, as examples to tokenize."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from easydata_sources.errors import DataFormatError
from easydata_tokenize import (
    ChatExample,
    Message,
    TextExample,
    as_int32,
    read_messages,
    read_template_kwargs,
    read_tools,
)
from easydata_tokenize.conversation import refuse_media
from numpy.typing import NDArray

from easydel_transforms.shared_prompt import split_messages, split_strings

__all__ = [
    "Answer",
    "PromptAndAnswers",
    "TokenAnswers",
    "describe_columns",
    "read_pair",
    "read_prompt",
    "read_unpaired",
]

Row: TypeAlias = Mapping[str, Any]
Ids: TypeAlias = NDArray[np.int32]
Answer: TypeAlias = TextExample | ChatExample
"""A prompt together with one answer to it."""


@dataclass(frozen=True, slots=True)
class PromptAndAnswers:
    """Examples that share a prompt: the answers of one row, each with the prompt before it."""

    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class TokenAnswers:
    """The same from an earlier run, as tokens."""

    prompt: Ids
    answers: tuple[Ids, ...]


def read_pair(row: Row) -> PromptAndAnswers | TokenAnswers:
    """Returns the chosen and the rejected answer of a row, in this order, with their prompt.

    The prompt is the row's own, or what both answers begin with. Strings and messages may be mixed: a string beside
    messages is one turn. Answers that repeat the prompt's messages are taken as whole conversations.

    Raises:
        DataFormatError: If the columns are missing, hold something else, or stand beside images, videos or sounds.
    """
    if _has(row, "chosen_ids", "rejected_ids"):
        prompt = _ids(row, "prompt_ids") if _has(row, "prompt_ids") else np.zeros(0, np.int32)
        return TokenAnswers(prompt, (_ids(row, "chosen_ids"), _ids(row, "rejected_ids")))
    if not _has(row, "chosen", "rejected"):
        raise _missing(row, ("chosen", "rejected"), "chosen and rejected (with or without prompt)", _PAIR_NAMES)
    return PromptAndAnswers(_with_prompt(row, ("chosen", "rejected")))


def read_unpaired(row: Row) -> list[tuple[PromptAndAnswers | TokenAnswers, bool]]:
    """Returns the answers of a row, each with whether it is a good one: one, or the two of a pair side by side.

    Raises:
        DataFormatError: If the columns are missing, hold something else, or stand beside images, videos or sounds.
    """
    if _has(row, "completion_ids", "label"):
        return [(TokenAnswers(_ids(row, "prompt_ids"), (_ids(row, "completion_ids"),)), _label(row))]
    if _has(row, "prompt", "completion", "label"):
        return [(PromptAndAnswers(_with_prompt(row, ("completion",))), _label(row))]
    if not (_has(row, "chosen", "rejected") or _has(row, "chosen_ids", "rejected_ids")):
        expected = "prompt, completion and label, or chosen and rejected (with or without prompt)"
        raise _missing(row, ("prompt", "completion", "label"), expected, _UNPAIRED_NAMES)
    pair = read_pair(row)
    if isinstance(pair, TokenAnswers):
        return [
            (TokenAnswers(pair.prompt, (ids,)), good) for ids, good in zip(pair.answers, (True, False), strict=True)
        ]
    return [(PromptAndAnswers((answer,)), good) for answer, good in zip(pair.answers, (True, False), strict=True)]


def read_prompt(row: Row) -> tuple[str | list[Message], Answer] | Ids:
    """Returns a row's prompt as the row has it and as an example to tokenize, or its tokens.

    Rows of chosen and rejected answers without a prompt of their own give what both begin with.

    Raises:
        DataFormatError: If there is no prompt, it is not a string or a list of messages, or it stands beside images,
            videos or sounds.
    """
    if _has(row, "prompt_ids"):
        return _ids(row, "prompt_ids")
    refuse_media(row)
    if _has(row, "prompt"):
        prompt = row["prompt"]
        if not isinstance(prompt, str):
            prompt = _conversation(prompt, "prompt")
        elif _has(row, "chosen", "rejected") and not isinstance(row["chosen"], str):
            # The string is the question of conversations that hold it too, with whatever came before it.
            prompt, *_ = _turns_of(row, ("chosen", "rejected"))
    elif _has(row, "chosen", "rejected"):
        prompt, *_ = _split(row)
    else:
        raise _missing(row, ("prompt",), "prompt, or chosen and rejected", _PROMPT_NAMES)
    if isinstance(prompt, str):
        return prompt, TextExample(text=prompt)
    return prompt, _chat(row, prompt, None)


def describe_columns(row: Row) -> str:
    """Returns the row's columns with their types, for messages."""
    return ", ".join(f"{name} ({'null' if value is None else type(value).__name__})" for name, value in row.items())


_PAIR_NAMES = {"chosen": ("good", "accepted", "preferred", "winner"), "rejected": ("bad", "refused", "loser")}
_UNPAIRED_NAMES = {
    "prompt": ("question", "instruction", "query"),
    "completion": ("answer", "response", "output"),
    "label": ("rating", "thumbs_up", "is_good"),
}
_PROMPT_NAMES = {"prompt": ("question", "instruction", "query", "problem", "text")}


def _with_prompt(row: Row, columns: Sequence[str]) -> tuple[Answer, ...]:
    refuse_media(row)
    prompt, *answers = _split(row) if not _has(row, "prompt") else _turns_of(row, columns)
    if isinstance(prompt, str):
        return tuple(TextExample(text=str(answer), prompt=prompt) for answer in answers)
    return tuple(_chat(row, [*prompt, *answer], len(prompt)) for answer in answers if not isinstance(answer, str))


def _split(row: Row) -> tuple[Any, Any, Any]:
    """Returns prompt and answers of a row whose answers hold the prompt."""
    chosen, rejected = row["chosen"], row["rejected"]
    if isinstance(chosen, str) and isinstance(rejected, str):
        return split_strings(chosen, rejected)
    return split_messages(_turns(chosen, "chosen"), _turns(rejected, "rejected"))


def _turns_of(row: Row, columns: Sequence[str]) -> tuple[Any, ...]:
    """Returns prompt and answers of a row that names its prompt: all strings, or all messages."""
    prompt, answers = row["prompt"], [row[column] for column in columns]
    if isinstance(prompt, str) and all(isinstance(answer, str) for answer in answers):
        return prompt, *answers
    turns = [_turns(answer, column) for answer, column in zip(answers, columns, strict=True)]
    asked = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else _conversation(prompt, "prompt")
    if isinstance(prompt, str) and len(turns) == 2 and all(answer[0]["role"] != "assistant" for answer in turns):
        return split_messages(*turns)
    rest = [
        answer[len(asked) :] if answer[: len(asked)] == asked and len(answer) > len(asked) else answer
        for answer in turns
    ]
    return asked, *rest


def _turns(value: Any, column: str) -> list[Message]:
    return [{"role": "assistant", "content": value}] if isinstance(value, str) else _conversation(value, column)


def _conversation(value: Any, column: str) -> list[Message]:
    messages = read_messages(value, column=column)
    if not messages:
        raise DataFormatError(
            f"The {column} has no messages.",
            column=column,
            found="an empty list",
            expected="at least one message",
            mend=f"dataset.filter(lambda row: len(row[{column!r}]) > 0)",
        )
    return messages


def _chat(row: Row, messages: list[Message], prompt_turns: int | None) -> ChatExample:
    return ChatExample(
        messages=messages,
        prompt_turns=prompt_turns,
        tools=read_tools(row.get("tools")),
        template_kwargs=read_template_kwargs(row.get("chat_template_kwargs")),
    )


def _label(row: Row) -> bool:
    value = row["label"]
    if isinstance(value, bool | np.bool_) or (isinstance(value, int | np.integer | float) and value in (0, 1)):
        return bool(value)
    raise DataFormatError(
        "Label is neither true nor false.",
        column="label",
        found=f"{type(value).__name__}: {value!r}"[:80],
        expected="true for an answer to learn, false for one to avoid",
        mend='dataset.map(lambda row: {"label": row["label"] > 0.5}) if it is a rating',
    )


def _ids(row: Row, column: str) -> Ids:
    values = np.asarray([] if row.get(column) is None else row[column])
    if values.ndim == 1 and (values.size == 0 or values.dtype.kind in "iu"):
        return as_int32(values, column, least=0)
    raise DataFormatError(
        "Tokenized row does not hold a flat list of integers.",
        column=column,
        found=f"array of {values.dtype} with shape {values.shape}",
        expected="one list of token ids",
        mend=f"dataset.map(lambda row: {{{column!r}: row[{column!r}][0]}}) if it has a batch dimension of one",
    )


def _has(row: Row, *columns: str) -> bool:
    return all(row.get(column) is not None for column in columns)


def _missing(
    row: Row, columns: Sequence[str], expected: str, other_names: Mapping[str, Sequence[str]]
) -> DataFormatError:
    absent = [column for column in columns if not _has(row, column)]
    present = {
        column: next((name for name in other_names.get(column, ()) if _has(row, name)), "…") for column in absent
    }
    body = ", ".join(f'"{column}": row["{name}"]' for column, name in present.items())
    return DataFormatError(
        f"Dataset must have column {' and column '.join(repr(column) for column in absent)}.",
        found=f"columns {describe_columns(row)}" if row else "no columns at all",
        expected=expected,
        mend=f"dataset = dataset.map(lambda row: {{{body}}})",
    )
