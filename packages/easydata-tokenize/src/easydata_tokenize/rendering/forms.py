"""The ways in which one conversation can be written down for a template.

Data sets and templates disagree about four things: whether the arguments of a tool call are an object or its JSON,
whether a message that only calls tools has no content, a null or an empty one, and whether texts are strings or lists
of parts. All of them say the same; a template may print only one of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from easydata_tokenize.conversation import Message, with_arguments_as

__all__ = ["forms_of"]


def forms_of(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """Yields the messages in every form, the likeliest first: objects as arguments, the rest as the row has it."""
    called = any(message.get("tool_calls") or message.get("function_call") for message in messages)
    silent = any(_is_silent(message) for message in messages)
    arguments = (dict, str) if called else (dict,)
    contents = ("given", "", None) if silent else ("given",)
    seen: list[list[Message]] = []
    for parts, content, kind in product(("given", "strings", "parts"), contents, arguments):
        form = with_arguments_as([_with_content(_with_parts(message, parts), content) for message in messages], kind)
        if form not in seen:
            seen.append(form)
            yield form


def _is_silent(message: Message) -> bool:
    return message.get("role") == "assistant" and not message.get("content")


def _with_content(message: Message, content: str | None) -> Message:
    return {**message, "content": content} if content != "given" and _is_silent(message) else message


def _with_parts(message: Message, parts: str) -> Message:
    content = message.get("content")
    if parts == "parts" and isinstance(content, str) and content:
        return {**message, "content": [{"type": "text", "text": content}]}
    if parts == "strings" and isinstance(content, list) and content and all(map(_is_text, content)):
        return {**message, "content": "".join(part["text"] for part in content)}
    return message


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
