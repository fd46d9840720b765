"""Which layout a row has, decided for each row by itself so that mixtures of layouts work.

A column counts as present only if its value is not null: a mixture of data sets read through Arrow gives every row
the union of all columns and fills the foreign ones with nulls. Structure beats text (an Alpaca row often carries a
rendered `text` as well), and columns nobody asked for are ignored.

>>> detect_layout({"instruction": "Add 1 and 2.", "input": None, "output": "3", "text": "..."}, SFT_LAYOUTS).value
'alpaca'
>>> detect_layout({"text": "Once upon a time", "source": "book"}, SFT_LAYOUTS).value
'text'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from easydata_sources.errors import DataFormatError

__all__ = ["SFT_LAYOUTS", "Layout", "detect_layout"]


class Layout(StrEnum):
    """The row layouts known here."""

    TOKENS = "tokens"
    """`input_ids`, optionally `labels`, `completion_mask`, `assistant_masks`, `attention_mask`."""
    PREFERENCE = "preference"
    """`chosen` and `rejected`, with or without `prompt`."""
    UNPAIRED = "unpaired"
    """`prompt`, `completion` and a true/false `label`."""
    PROMPT_COMPLETION = "prompt_completion"
    """`prompt` and `completion`, each a string or a list of messages."""
    MESSAGES = "messages"
    """`messages`: a list of `{role, content}`."""
    CONVERSATIONS = "conversations"
    """`conversations`: a list of `{from, value}` (or of `{role, content}`)."""
    ALPACA = "alpaca"
    """`instruction` and `output`, optionally `input`."""
    DOLLY = "dolly"
    """`instruction` and `response`, optionally `context`."""
    PROMPT = "prompt"
    """`prompt` alone; every other column is the reward functions' business."""
    TEXT = "text"
    """`text`."""


SFT_LAYOUTS: tuple[Layout, ...] = (
    Layout.TOKENS,
    Layout.PROMPT_COMPLETION,
    Layout.MESSAGES,
    Layout.CONVERSATIONS,
    Layout.ALPACA,
    Layout.DOLLY,
    Layout.TEXT,
)
"""What supervised fine-tuning takes, in the order in which a row is tried."""

_COLUMNS: dict[Layout, tuple[str, ...]] = {
    Layout.TOKENS: ("input_ids",),
    Layout.PREFERENCE: ("chosen", "rejected"),
    Layout.UNPAIRED: ("prompt", "completion", "label"),
    Layout.PROMPT_COMPLETION: ("prompt", "completion"),
    Layout.MESSAGES: ("messages",),
    Layout.CONVERSATIONS: ("conversations",),
    Layout.ALPACA: ("instruction", "output"),
    Layout.DOLLY: ("instruction", "response"),
    Layout.PROMPT: ("prompt",),
    Layout.TEXT: ("text",),
}

# Pairs of columns that are a question and its answer under other names; used only to word the mending `map` line.
_LIKELY_PAIRS = (
    ("question", "answer"),
    ("query", "response"),
    ("problem", "solution"),
    ("input", "output"),
    ("instruction", "answer"),
    ("prompt", "response"),
    ("prompt", "chosen"),
)


def detect_layout(row: Mapping[str, Any], accepted: Sequence[Layout]) -> Layout:
    """Returns the first of `accepted` whose columns the row has (null counts as absent).

    Args:
        row: One row.
        accepted: Layouts the caller can use, in order of preference.

    Raises:
        DataFormatError: If none fits; names the columns found, the layouts accepted and a `map` line that mends it.
    """
    for layout in accepted:
        if all(row.get(column) is not None for column in _COLUMNS[layout]):
            return layout
    raise DataFormatError(
        "Row has no layout known here.",
        found=describe_columns(row),
        expected="one of: " + "; ".join(f"{layout.value} ({', '.join(_COLUMNS[layout])})" for layout in accepted),
        mend=_mending_map(row),
    )


def describe_columns(row: Mapping[str, Any]) -> str:
    """Returns the row's columns and the types of their values, for an error message."""
    if not row:
        return "no columns at all"
    return "columns " + ", ".join(
        f"{name} ({'null' if value is None else type(value).__name__})" for name, value in row.items()
    )


def _mending_map(row: Mapping[str, Any]) -> str:
    texts = [name for name, value in row.items() if isinstance(value, str)]
    chats = [name for name, value in row.items() if _is_conversation(value)]
    for question, answer in _LIKELY_PAIRS:
        if row.get(question) is not None and row.get(answer) is not None:
            body = f'{{"prompt": row[{question!r}], "completion": row[{answer!r}]}}'
            return f"dataset.map(lambda row: {body})"
    if chats:
        return f'dataset.map(lambda row: {{"messages": row[{chats[0]!r}]}})'
    if texts:
        body = f'{{"text": row[{texts[0]!r}]}}'
        return f"dataset.map(lambda row: {body}), or name the column: dataset_text_field={texts[0]!r}"
    return 'dataset.map(lambda row: {"text": ...}) with the text to train on'


def _is_conversation(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)
