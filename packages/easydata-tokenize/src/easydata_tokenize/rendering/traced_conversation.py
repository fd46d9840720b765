"""A conversation whose texts and numbers are traced, as templates are given it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from easydata_tokenize.conversation import Message
from easydata_tokenize.rendering.trace import Run
from easydata_tokenize.rendering.traced_text import TracedFloat, TracedInt, TracedText

__all__ = ["REASONING_FIELDS", "Leaf", "TracedConversation"]

REASONING_FIELDS = ("reasoning_content", "thinking", "reasoning")
"""Names under which messages have their thoughts; the first is what most templates read."""

_KINDS = {"tool": "tool_result", "function": "tool_result", "ipython": "tool_result", "observation": "tool_result"}
_CALLS = ("tool_calls", "function_call")


@dataclass(frozen=True, slots=True)
class Leaf:
    """A text or number of a conversation."""

    message: int | None
    """Index of its message; None = it describes a tool."""
    kind: str
    """`reasoning`, `tool_call`, `tool_result`, `tools`, the type of a part that is no text, else the message's role."""
    text: str
    whole: bool
    """Whether it is the whole content of its message."""


@final
@dataclass(slots=True)
class TracedConversation:
    """Messages and tools with their leaves traced; the leaves of a message are the same however many follow it.

    Args:
        original: The messages.
        original_tools: Tools.
    """

    original: Sequence[Message]
    original_tools: Sequence[Any] | None
    leaves: list[Leaf] = field(default_factory=list)
    tools: list[Any] | None = None
    messages: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tools = None if self.original_tools is None else [self._tool(tool) for tool in self.original_tools]
        self.messages = [self._message(index, message) for index, message in enumerate(self.original)]

    @property
    def characters(self) -> int:
        """Characters of all leaves."""
        return sum(len(leaf.text) for leaf in self.leaves)

    def _message(self, index: int, message: Message) -> Message:
        role = str(message.get("role"))
        kind = _KINDS.get(role, role)
        traced = {key: _plain(value) for key, value in message.items()}
        if "content" in traced:
            traced["content"] = self._content(index, kind, traced["content"])
        for name in _CALLS:
            if traced.get(name):
                traced[name] = self._calls(index, traced[name])
        known: dict[str, TracedText] = {}
        for name in REASONING_FIELDS:
            value = traced.get(name)
            if isinstance(value, str):
                if value not in known:
                    known[value] = self._text(index, "reasoning", value)
                traced[name] = known[value]
            elif value is not None:
                traced[name] = self._nested(index, "reasoning", value)
        # As transformers does: templates know thoughts under one of two names.
        thought = next((traced[name] for name in REASONING_FIELDS if traced.get(name) is not None), None)
        return traced if thought is None else {"thinking": thought, **traced, "reasoning_content": thought}

    def _content(self, index: int, kind: str, content: Any) -> Any:
        if isinstance(content, str):
            return self._text(index, kind, content, whole=True)
        if isinstance(content, list) and all(isinstance(part, dict) and "type" in part for part in content):
            return [self._part(index, kind, part) for part in content]
        return self._nested(index, kind, content)

    def _part(self, index: int, kind: str, part: dict[str, Any]) -> dict[str, Any]:
        own = kind if part["type"] == "text" else str(part["type"])
        return {key: value if key == "type" else self._nested(index, own, value) for key, value in part.items()}

    def _calls(self, index: int, calls: Any) -> Any:
        if isinstance(calls, list):
            return [self._calls(index, call) for call in calls]
        if not isinstance(calls, dict):
            return calls
        spoken = ("name", "arguments", "parameters")
        return {
            key: self._calls(index, value)
            if key == "function"
            else self._nested(index, "tool_call", value)
            if key in spoken
            else value
            for key, value in calls.items()
        }

    def _tool(self, tool: Any) -> Any:
        tool = _plain(tool)
        if not isinstance(tool, dict):
            return tool
        if isinstance(tool.get("function"), dict):
            return {**tool, "function": self._tool(tool["function"])}
        shown = {key: self._text(None, "tools", tool[key]) for key in ("name", "description") if _says(tool.get(key))}
        return {**tool, **shown}

    def _nested(self, index: int, kind: str, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(index, kind, value)
        if isinstance(value, dict):
            return {key: self._nested(index, kind, item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._nested(index, kind, item) for item in value]
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value
        number = TracedInt(value) if isinstance(value, int) else TracedFloat(value)
        number.leaf = len(self.leaves)
        self.leaves.append(Leaf(index, kind, repr(value), False))
        return number

    def _text(self, index: int | None, kind: str, text: str, *, whole: bool = False) -> TracedText:
        leaf = len(self.leaves)
        self.leaves.append(Leaf(index, kind, text, whole))
        return TracedText(text, (Run(len(text), (leaf,), 0, False),) if text else (), leaf)


def _says(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _plain(value: Any) -> Any:
    """Returns the value in JSON's own types: templates come from anybody, and other objects have methods that do
    things.
    """
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    item = getattr(value, "item", None)  # numpy's numbers
    return _plain(item()) if callable(item) and getattr(value, "shape", None) == () else f"<{type(value).__name__}>"
