"""A row of any layout as one of three things to train on: a text, a conversation, or tokens.

Everything after this file sees only these three, so a new layout is one entry in `layouts` and one reader here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from easydata_sources.errors import DataFormatError
from numpy.typing import NDArray

from easydata_tokenize.conversation import Message, read_messages, read_template_kwargs, read_tools, refuse_media
from easydata_tokenize.layouts import Layout, describe_columns, detect_layout
from easydata_tokenize.token_ids import as_int32

__all__ = ["ChatExample", "Example", "TextExample", "TokenExample", "read_example"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TextExample:
    """Plain text. With a prompt, the whole text is prompt + text, and only `text` is the completion."""

    text: str
    prompt: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatExample:
    """A conversation. With `prompt_turns`, that many messages are the prompt and the others the completion."""

    messages: list[Message]
    prompt_turns: int | None = None
    tools: list[Any] | None = None
    template_kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenExample:
    """Tokens from an earlier run. Masks and labels are as long as the tokens; None where the row has none."""

    input_ids: NDArray[np.int32]
    labels: NDArray[np.int32] | None = None
    completion_mask: NDArray[np.bool_] | None = None
    assistant_mask: NDArray[np.bool_] | None = None


Example: TypeAlias = TextExample | ChatExample | TokenExample


def read_example(
    row: Mapping[str, Any], accepted: Sequence[Layout], *, has_template: bool, text_field: str | None = None
) -> Example:
    """Returns what a row asks to be trained on.

    Args:
        row: One row of any layout.
        accepted: Layouts to look for, in order of preference.
        has_template: Whether conversations can be rendered. Without a chat template Alpaca and Dolly rows become
            plain text: instruction, blank line, input or context if there is one; then, as the completion, a blank
            line and the answer.
        text_field: Column that holds plain text. Naming one means the row is read as text whatever else it has;
            None means: by layout.

    Raises:
        DataFormatError: If the row has no accepted layout, a column holds something else than its layout says, or the
            row holds images, videos or sounds beside its text.
    """
    if text_field is not None:
        return _named_text(row, text_field)
    layout = detect_layout(row, accepted)
    if layout != Layout.TOKENS:
        refuse_media(row)
    if layout in (Layout.ALPACA, Layout.DOLLY):
        return _instruction(row, layout, has_template)
    return _READERS[layout](row)


def _named_text(row: Mapping[str, Any], column: str) -> TextExample:
    if row.get(column) is None:
        raise DataFormatError(
            "Row lacks the text column that was named.",
            column=column,
            found=describe_columns(row),
            expected=f"a string in {column!r}",
            mend="name another dataset_text_field, or leave it None to have the layout found per row",
        )
    return TextExample(text=_string(row, column))


def _text(row: Mapping[str, Any]) -> TextExample:
    return TextExample(text=_string(row, "text"))


def _messages(row: Mapping[str, Any]) -> ChatExample:
    return _chat(row, read_messages(row["messages"], column="messages"))


def _conversations(row: Mapping[str, Any]) -> ChatExample:
    return _chat(row, read_messages(row["conversations"], column="conversations"))


def _prompt_completion(row: Mapping[str, Any]) -> TextExample | ChatExample:
    prompt, completion = row["prompt"], row["completion"]
    if isinstance(prompt, str) and isinstance(completion, str):
        return TextExample(text=completion, prompt=prompt)
    prompt_turns = _turns(prompt, "prompt", role="user")
    return _chat(row, prompt_turns + _turns(completion, "completion", role="assistant"), len(prompt_turns))


def _turns(value: Any, column: str, *, role: str) -> list[Message]:
    # A string beside a list of messages is one turn of the side it stands on.
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    turns = read_messages(value, column=column)
    if not turns:
        raise DataFormatError(
            f"The {column} has no messages.",
            column=column,
            found="an empty list",
            expected="at least one message",
            mend=f"dataset.filter(lambda row: len(row[{column!r}]) > 0)",
        )
    return turns


def _instruction(row: Mapping[str, Any], layout: Layout, has_template: bool) -> TextExample | ChatExample:
    context, answer = ("input", "output") if layout is Layout.ALPACA else ("context", "response")
    parts = [_string(row, "instruction")]
    if row.get(context):
        parts.append(_string(row, context))
    prompt = "\n\n".join(parts)
    if not has_template:
        # The blank line goes to the answer: at the end of a prompt it would be other tokens than before an answer.
        return TextExample(text="\n\n" + _string(row, answer), prompt=prompt)
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": _string(row, answer)}]
    return _chat(row, turns, prompt_turns=1)


def _chat(row: Mapping[str, Any], messages: list[Message], prompt_turns: int | None = None) -> ChatExample:
    return ChatExample(
        messages=messages,
        prompt_turns=prompt_turns,
        tools=read_tools(row.get("tools")),
        template_kwargs=read_template_kwargs(row.get("chat_template_kwargs")),
    )


def _tokens(row: Mapping[str, Any]) -> TokenExample:
    ids = _integers(row, "input_ids")
    columns = {name: _aligned(row, name, len(ids)) for name in ("labels", "completion_mask", "assistant_masks")}
    # Padding that an earlier tool left in the row is not data, and with pad == eos nothing else could tell.
    attention = _aligned(row, "attention_mask", len(ids))
    real = slice(None) if attention is None else attention != 0
    labels, completion, assistant = (None if value is None else value[real] for value in columns.values())
    return TokenExample(
        input_ids=ids[real],
        labels=labels,
        completion_mask=None if completion is None else completion != 0,
        assistant_mask=None if assistant is None else assistant != 0,
    )


def _aligned(row: Mapping[str, Any], column: str, length: int) -> NDArray[np.int32] | None:
    if row.get(column) is None:
        return None
    values = _integers(row, column)
    if len(values) != length:
        raise DataFormatError(
            "Columns of one tokenized row differ in length.",
            column=column,
            found=f"{len(values)} values beside {length} input_ids",
            expected="one value per token",
            mend=f"correct the row, or leave the column out: dataset.remove_columns([{column!r}])",
        )
    return values


def _integers(row: Mapping[str, Any], column: str) -> NDArray[np.int32]:
    try:
        values = np.asarray(row[column])
    except ValueError as error:
        raise _not_tokens(column, f"a ragged list ({error})") from error
    if values.size == 0 and values.ndim == 1:
        return np.zeros(0, np.int32)
    if values.ndim != 1 or values.dtype.kind not in "iub":
        raise _not_tokens(column, f"array of {values.dtype} with shape {values.shape}")
    return as_int32(values, column, **({"least": 0} if column == "input_ids" else {}))


def _not_tokens(column: str, found: str) -> DataFormatError:
    return DataFormatError(
        "Tokenized row does not hold a flat list of integers.",
        column=column,
        found=found,
        expected="one list of integers per row, without a batch dimension",
        mend=f"dataset.map(lambda row: {{{column!r}: row[{column!r}][0]}}) if it has a batch dimension of one",
    )


def _string(row: Mapping[str, Any], column: str) -> str:
    value = row[column]
    if isinstance(value, str):
        return value
    raise DataFormatError(
        "Column does not hold a string.",
        column=column,
        found=f"{type(value).__name__}: {repr(value)[:80]}",
        expected="a string",
        mend=f"dataset.map(lambda row: {{{column!r}: str(row[{column!r}])}})",
    )


_READERS: dict[Layout, Callable[[Mapping[str, Any]], Example]] = {
    Layout.TOKENS: _tokens,
    Layout.MESSAGES: _messages,
    Layout.CONVERSATIONS: _conversations,
    Layout.PROMPT_COMPLETION: _prompt_completion,
    Layout.TEXT: _text,
}
