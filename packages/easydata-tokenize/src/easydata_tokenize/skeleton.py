"""A conversation rendered with a placeholder in place of every content.

Between the placeholders stands what the template writes itself. Put together with real contents it must give the real
rendering, letter by letter; then the place of every content, and of every turn, is known by construction.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

from easydata_sources.errors import DataFormatError

from easydata_tokenize.chat import ChatTemplate
from easydata_tokenize.conversation import Message
from easydata_tokenize.scene import Scene, strings_in

__all__ = ["Skeleton", "Span", "build_skeleton", "hide_contents"]

Span: TypeAlias = tuple[int, int]
"""Characters `[start, end)` of a rendered conversation."""

# The control character counts as white space, so it shows whether the template trims a content; the two private-use
# letters keep the number from running into digits of the template.
_PAD = "\x1f"
_PLACEHOLDER = re.compile(f"({_PAD}?)\ue000(\\d+)\ue001({_PAD}?)")


def hide_contents(messages: list[Message]) -> list[Message]:
    """Return the messages with a numbered placeholder for every content that is a string."""
    return [_hide_content(message, index) for index, message in enumerate(messages)]


def build_skeleton(
    template: ChatTemplate, hidden: list[Message], tools: list[Any] | None, template_kwargs: Mapping[str, Any]
) -> Skeleton | None:
    """Return the skeleton of messages whose contents are hidden, or None if a turn's place in it is not sure."""
    try:
        text = template.render(hidden, tools=tools, template_kwargs=template_kwargs)
        scene = Scene(template=template, messages=hidden, tools=tools, template_kwargs=template_kwargs, text=text)
        slots = [_read_slot(match) for match in _PLACEHOLDER.finditer(text)]
        spoken = [index for index, message in enumerate(hidden) if message["role"] == "assistant"]
        turns = [_turn(scene, slots, index) for index in spoken]
    except DataFormatError:
        return None  # the caller looks at the real rendering instead, and explains itself if that fails too
    if any(after[0] < before[1] for before, after in pairwise(turns)):
        return None
    return Skeleton(text=text, slots=slots, turns=turns)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Slot:
    """Where a content goes: `[start, end)` of the skeleton, and whether the template trims it."""

    message: int
    start: int
    end: int
    trim_left: bool
    trim_right: bool

    def fill(self, messages: list[Message]) -> str:
        content: str = messages[self.message]["content"]
        content = content.lstrip() if self.trim_left else content
        return content.rstrip() if self.trim_right else content


@dataclass(frozen=True, kw_only=True, slots=True)
class Skeleton:
    """The template's own letters, the slots for the contents, and the assistant's turns."""

    text: str
    slots: list[_Slot]
    turns: list[Span]

    def locate(self, rendered: str, messages: list[Message]) -> list[Span] | None:
        """Return the turns in the real rendering, or None if slots and contents do not give that rendering."""
        contents = [slot.fill(messages) for slot in self.slots]
        position, pieces = 0, []
        for slot, content in zip(self.slots, contents, strict=True):
            pieces += [self.text[position : slot.start], content]
            position = slot.end
        if "".join([*pieces, self.text[position:]]) != rendered:
            return None
        return [(self._moved(start, contents), self._moved(end, contents)) for start, end in self.turns]

    def _moved(self, position: int, contents: list[str]) -> int:
        growth = (
            len(content) - (slot.end - slot.start)
            for slot, content in zip(self.slots, contents, strict=True)
            if slot.end <= position
        )
        return position + sum(growth)


def _hide_content(message: Message, index: int) -> Message:
    content = message["content"]
    # Templates often ask whether a tool-calling message also says something, so an empty content there stays empty.
    if not isinstance(content, str) or (not content and "tool_calls" in message):
        return message
    return {**message, "content": f"{_PAD}\ue000{index}\ue001{_PAD}"}


def _read_slot(match: re.Match[str]) -> _Slot:
    return _Slot(
        message=int(match[2]),
        start=match.start(),
        end=match.end(),
        trim_left=not match[1],
        trim_right=not match[3],
    )


def _turn(scene: Scene, slots: list[_Slot], index: int) -> Span:
    message = scene.messages[index]
    own = next((slot for slot in slots if slot.message == index), None)
    if own is None and _PLACEHOLDER.search(str(message["content"])):
        raise scene.uncertain(index, "the template does not print the content of this turn")
    start = _turn_start(scene, own, index)
    said = start if own is None else own.end
    if own is not None and own.start < start:
        raise scene.uncertain(index, "the generation prompt reaches into the text of the turn")
    if "tool_calls" in message:
        limit = next((slot.start for slot in slots if slot.message > index), len(scene.text))
        return start, scene.stop_after(said, limit, index=index, said=strings_in(message["tool_calls"]))
    stop = scene.template.stop_rule.stop
    return start, said + (len(stop) if scene.text.startswith(stop, said) else 0)


def _turn_start(scene: Scene, own: _Slot | None, index: int) -> int:
    header = scene.template.generation_prompt
    if own is None or not scene.text.endswith(header, 0, own.start):
        return scene.turn_start(index)
    # Without a generation prompt the header belongs to nobody; only spaces before the text are generated.
    return own.start if header else len(scene.text[: own.start].rstrip(" "))
