"""Conversations as chat templates expect them: `{role, content}` messages without the nulls of Arrow structs.

`{from, value}` messages get the role names templates know (`human` becomes `user`, `gpt` becomes `assistant`). TRL
keeps the old names, which most templates then render into an empty or broken conversation.

>>> read_messages([{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}], column="conversations")
[{'role': 'user', 'content': 'Hi'}, {'role': 'assistant', 'content': 'Hello!'}]
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from easydata_sources.errors import DataFormatError
from easydata_sources.rows import as_arrow_structs, is_padded, without_padding

__all__ = ["Message", "read_messages", "read_template_kwargs", "read_tools", "with_arguments_as"]

Message: TypeAlias = dict[str, Any]
"""One turn: `role`, `content`, and whatever else the template reads (`tool_calls`, `name`, `reasoning_content`)."""

_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "system": "system",
    "developer": "developer",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}

# An assistant may say nothing but call a tool, think, or both; everybody else has to say something.
_INSTEAD_OF_CONTENT = ("tool_calls", "reasoning_content", "reasoning", "thinking", "function_call")


_MEDIA = {"image": "an image", "video": "a video", "audio": "a sound"}
"""Words in the types of parts that are no text, such as `image_url` and `input_audio`, and, alone or with an s, columns
of them."""


def read_messages(value: Any, *, column: str) -> list[Message]:
    """Returns a row's conversation as `{role, content}` messages.

    Args:
        value: The column's value: a list of `{role, content, …}` or of `{from, value, …}`.
        column: Its name, for error messages.

    Returns:
        New message dicts; the row is not changed. Keys of a message whose value is null are left out, and deeper
        inside those that Arrow may have padded in; only the content of an assistant's message may be null.

    Raises:
        DataFormatError: If the value is not a list of messages, a role of a `{from, value}` message is unknown, or a
            message holds an image, a video or a sound.
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise DataFormatError(
            "Conversation is not a list of messages.",
            column=column,
            found=f"{type(value).__name__}: {_short(value)}",
            expected='[{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]',
            mend=f"dataset.map(lambda row: {{{column!r}: json.loads(row[{column!r}])}}) if it is JSON in a string",
        )
    messages = as_arrow_structs(list(value)) if is_padded(value) else value
    return [_read_message(message, f"{column}[{index}]") for index, message in enumerate(messages)]


def refuse_media(row: Mapping[str, Any]) -> None:
    """Refuses a row with images, videos or sounds in columns beside its text: nothing would be trained on them.

    Raises:
        DataFormatError: If such a column holds anything; names it, and the line that takes it away.
    """
    for medium, what in _MEDIA.items():
        for column in (medium, f"{medium}s"):
            value = row.get(column)
            if value is None or (isinstance(value, Sequence) and not value):
                continue
            raise DataFormatError(
                f"Row holds {what} beside its text, and text alone is trained.",
                column=column,
                found=_short(value),
                expected="no such column, or null",
                mend=f"dataset.remove_columns({column!r}) to train on the text alone",
            )


def read_tools(value: Any) -> list[Any] | None:
    """Returns the `tools` of a row: a list, or a JSON string of one. No tools, and an empty list, are None.

    None and not `[]`, because several templates print their tool instructions for an empty list too.

    Raises:
        DataFormatError: If it is neither, or the JSON is broken.
    """
    if value is None or value == "":
        return None
    tools = _from_json(value, "tools") if isinstance(value, str) else value
    if not isinstance(tools, Sequence):
        raise DataFormatError(
            "Tools are not a list.",
            column="tools",
            found=f"{type(tools).__name__}: {_short(tools)}",
            expected="a list of JSON schemas of functions, or a JSON string of such a list",
            mend='dataset.map(lambda row: {"tools": [row["tools"]]}) if it is a single tool',
        )
    schemas = [_from_json(tool, "tools") if isinstance(tool, str) else without_padding(tool) for tool in tools]
    return schemas or None


def read_template_kwargs(value: Any) -> dict[str, Any]:
    """Returns a row's `chat_template_kwargs`: extra variables of the chat template, for this row only.

    Raises:
        DataFormatError: If they are no dict.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DataFormatError(
            "Template variables are not a dict.",
            column="chat_template_kwargs",
            found=f"{type(value).__name__}: {_short(value)}",
            expected='a dict such as {"enable_thinking": False}, or null',
            mend='dataset.map(lambda row: {"chat_template_kwargs": json.loads(row["chat_template_kwargs"])})',
        )
    return _without_nulls(value)


def with_arguments_as(messages: list[Message], kind: type[dict] | type[str]) -> list[Message]:
    """Returns the messages with the arguments of every tool call as dicts or as JSON strings.

    Data sets hold either; a template can print only one of them. A string that is not JSON stays as it is.
    """
    converted = []
    for message in messages:
        calls = {
            name: _convert_calls(message[name], kind) for name in ("tool_calls", "function_call") if message.get(name)
        }
        converted.append({**message, **calls} if calls else message)
    return converted


def _read_message(message: Any, where: str) -> Message:
    if not isinstance(message, dict):
        raise _bad_message("Message is not a dict.", where, f"{type(message).__name__}: {_short(message)}")
    if "role" in message:
        read = _without_nulls(message)
    elif "from" in message:
        read = _from_value_message(message, where)
    else:
        raise _bad_message("Message has no role.", where, f"keys {', '.join(map(str, message)) or '(none)'}")
    if not isinstance(read.get("role"), str):
        raise _bad_message("Role of a message is not a string.", where, _short(message["role"]))
    if "content" not in read:
        if message.get("content", "") is None:
            read["content"] = None  # not the same as "": some templates print calls beside a null only
        if read["role"] != "assistant" or not any(key in read for key in _INSTEAD_OF_CONTENT):
            raise _bad_message("Message has no content.", where, f"role {read['role']}, keys {', '.join(read)}")
    _refuse_media(read.get("content"), where)
    for name in ("tool_calls", "function_call"):
        if read.get(name):
            _check_calls(read[name], f"{where}.{name}")
    return read


def _refuse_media(content: Any, where: str) -> None:
    """Refuses parts that are no text. Some templates render a mark for them, of which a model without eyes learns."""
    for index, part in enumerate(content if isinstance(content, list) else ()):
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(kind, str) and any(medium in kind for medium in _MEDIA):
            raise DataFormatError(
                f"A message holds {_MEDIA[next(medium for medium in _MEDIA if medium in kind)]}, and text alone is "
                "trained.",
                column=f"{where}.content[{index}]",
                found=_short(part),
                expected='text alone: a string, or parts {"type": "text", "text": "…"}',
                mend="drop such rows with dataset.filter(…), or keep the text of their parts with dataset.map(…)",
            )


def _check_calls(calls: Any, where: str) -> None:
    """Refuses calls without a name, and arguments that are no JSON: templates print both as if nothing were wrong."""
    for index, call in enumerate(calls if isinstance(calls, list) else [calls]):
        place = f"{where}[{index}]" if isinstance(calls, list) else where
        function = call.get("function", call) if isinstance(call, dict) else call
        if not isinstance(function, dict) or not function.get("name") or not isinstance(function["name"], str):
            raise _bad_call("Tool call has no name.", place, _short(call))
        arguments = function.get("arguments")
        if isinstance(arguments, str) and arguments.strip():
            try:
                json.loads(arguments)
            except ValueError as error:
                raise _bad_call(
                    "Arguments of a tool call are not JSON.", place, f"{_short(arguments)} ({error})"
                ) from error


def _from_value_message(message: Mapping[str, Any], where: str) -> Message:
    others = {key: value for key, value in message.items() if key not in ("from", "value")}
    name = str(message["from"]).lower()
    if name not in _ROLES:
        raise DataFormatError(
            "Speaker of a message is unknown.",
            column=where,
            found=f"from = {message['from']!r}",
            expected=f"one of {', '.join(_ROLES)}",
            mend="rename it, or write the rows as {role, content}, whose roles are given to the template as they are",
        )
    return _without_nulls({"role": _ROLES[name], "content": message.get("value"), **others})


def _without_nulls(message: Mapping[str, Any]) -> Message:
    # A message's own keys are absent where they are null. Below them, in tool calls, null is data unless Arrow may
    # have padded it in: it gives every struct of a column the same keys.
    return {key: without_padding(value) for key, value in message.items() if value is not None}


def _convert_calls(calls: Any, kind: type[dict] | type[str]) -> Any:
    return [_convert_call(call, kind) for call in calls] if isinstance(calls, list) else _convert_call(calls, kind)


def _convert_call(call: Any, kind: type[dict] | type[str]) -> Any:
    if not isinstance(call, dict):
        return call
    if isinstance(call.get("function"), dict):
        return {**call, "function": _convert_call(call["function"], kind)}
    arguments = call.get("arguments")
    if kind is str and isinstance(arguments, (dict, list)):
        return {**call, "arguments": json.dumps(arguments, ensure_ascii=False)}
    if kind is dict and isinstance(arguments, str):
        try:
            return {**call, "arguments": json.loads(arguments) if arguments.strip() else {}}
        except json.JSONDecodeError:
            return call
    return call


def _from_json(text: str, column: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataFormatError(
            "JSON in a string cannot be read.",
            column=column,
            found=f"{_short(text)} ({error})",
            expected="valid JSON",
            mend=f"dataset.filter(lambda row: is_json(row[{column!r}])), or correct the row",
        ) from error


def _bad_message(problem: str, where: str, found: str) -> DataFormatError:
    return DataFormatError(
        problem,
        column=where,
        found=found,
        expected='{"role": "user" | "assistant" | "system" | "tool", "content": "…"}',
        mend="write the message in that form, or drop the row with dataset.filter(…)",
    )


def _bad_call(problem: str, where: str, found: str) -> DataFormatError:
    return DataFormatError(
        problem,
        column=where,
        found=found,
        expected='{"type": "function", "function": {"name": "…", "arguments": {…}}}, the arguments a dict or its JSON',
        mend="correct the call, or drop the row with dataset.filter(…)",
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"
