"""Transforms that turn other layouts of conversations into `messages`: lists of `{role, content}`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from easydata_sources.errors import DataFormatError
from easydata_sources.transforms.transform import Transform
from easydata_sources.types import Row

DEFAULT_ROLES: Mapping[str, str] = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function": "tool",
    "observation": "tool",
}
"""Names of roles that chat templates do not know -> those they do. All others stay as they are."""


@final
class ConvertToChatML(Transform):
    """Turns `{from, value}` messages into `{role, content}` ones; everything else in a message is kept.

    >>> convert = ConvertToChatML()
    >>> convert({"conversations": [{"from": "human", "value": "Hi"}]})
    {'messages': [{'role': 'user', 'content': 'Hi'}]}

    A row without the field stays as it is.

    Args:
        input_field: Field of the conversation.
        output_field: Field of the result; the input field is removed if it is another.
        role_mapping: Name of a role -> new name; before the default ones.
        use_default_mapping: Also map `human`, `gpt`, `function`, ….

    Raises:
        DataFormatError: While transforming, if the field holds no list of messages.
    """

    def __init__(
        self,
        input_field: str = "conversations",
        output_field: str = "messages",
        role_mapping: Mapping[str, str] | None = None,
        use_default_mapping: bool = True,
    ) -> None:
        self._input = input_field
        self._output = output_field
        self._roles = {**(DEFAULT_ROLES if use_default_mapping else {}), **(role_mapping or {})}

    @property
    def keeps_every_row(self) -> bool:
        return True

    def __call__(self, row: Row) -> Row:
        if self._input not in row:
            return row
        messages = [self._convert(message, index) for index, message in enumerate(_list_of(row, self._input))]
        return _replaced(row, self._input, self._output, messages)

    def _convert(self, message: Any, index: int) -> dict[str, Any]:
        role = isinstance(message, Mapping) and (message.get("role") or message.get("from"))
        if not isinstance(role, str):
            raise _no_message(
                f"{self._input}[{index}]", message, "a dict with `role` and `content`, or `from` and `value`"
            )
        rest = {name: value for name, value in message.items() if name not in ("role", "from", "value", "content")}
        content = message["content"] if message.get("content") is not None else message.get("value")
        return {"role": self._roles.get(role, role), "content": content, **rest}


@final
class ConvertInputOutputToChatML(Transform):
    """Turns `{input, output}` pairs into messages: each pair is a turn of the user and one of the assistant.

    >>> ConvertInputOutputToChatML()({"conversation": [{"input": "Hi", "output": "Hello!"}]})
    {'messages': [{'role': 'user', 'content': 'Hi'}, {'role': 'assistant', 'content': 'Hello!'}]}

    A row without the field stays as it is.

    Args:
        input_field: Field of the pairs.
        output_field: Field of the result; the input field is removed if it is another.
        user_role: Role of the inputs.
        assistant_role: Role of the outputs.

    Raises:
        DataFormatError: While transforming, if the field holds no list of pairs.
    """

    def __init__(
        self,
        input_field: str = "conversation",
        output_field: str = "messages",
        user_role: str = "user",
        assistant_role: str = "assistant",
    ) -> None:
        self._input = input_field
        self._output = output_field
        self._roles = {"input": user_role, "output": assistant_role}

    @property
    def keeps_every_row(self) -> bool:
        return True

    def __call__(self, row: Row) -> Row:
        if self._input not in row:
            return row
        messages: list[dict[str, Any]] = []
        for index, pair in enumerate(_list_of(row, self._input)):
            if not isinstance(pair, Mapping) or not {"input", "output"} <= pair.keys():
                raise _no_message(f"{self._input}[{index}]", pair, "a dict with `input` and `output`")
            messages += [{"role": role, "content": pair[name]} for name, role in self._roles.items()]
        return _replaced(row, self._input, self._output, messages)


def _list_of(row: Row, field: str) -> Sequence[Any]:
    value = row[field]
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise _no_message(field, value, "a list of messages")
    return value


def _replaced(row: Row, old: str, new: str, value: Any) -> Row:
    return {**{name: kept for name, kept in row.items() if name != old}, new: value}


def _no_message(column: str, found: Any, expected: str) -> DataFormatError:
    return DataFormatError(
        "A conversation cannot be converted.",
        column=column,
        found=f"{type(found).__name__} {str(found)[:60]!r}",
        expected=expected,
        mend="filter such rows out, or name the field that holds the conversation",
    )
