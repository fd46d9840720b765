"""Where the assistant speaks in a rendered conversation, for templates that do not mark it.

A turn runs from where the generation prompt ends to where the template's stop token ends. First choice is the proof
by placeholders (`skeleton`): it holds whatever the contents say — an answer equal to the question, an empty answer, an
answer that quotes the template — and placeholder renderings depend only on the shape of a conversation, so they are
kept. Where the template treats contents by what they say (cuts out old thoughts, say), that proof fails, and each turn
is found from the rendering of the messages before it. If that cannot be proved either, the row raises.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from easydata_tokenize.chat import ChatTemplate
from easydata_tokenize.conversation import Message
from easydata_tokenize.scene import Scene, strings_in
from easydata_tokenize.skeleton import Skeleton, Span, build_skeleton, hide_contents

__all__ = ["AssistantTurns"]

_KEPT_SHAPES = 1024


class AssistantTurns:
    """Finds the assistant's turns in what one template renders."""

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template
        self._skeletons: dict[str, Skeleton | None] = {}

    def find(
        self,
        text: str,
        messages: list[Message],
        *,
        tools: list[Any] | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> list[Span]:
        """Return the span of every assistant turn: its text as rendered, and the stop token.

        Args:
            text: The conversation as `template.render` gave it.
            messages: The conversation.
            tools: The tools it was rendered with.
            template_kwargs: The template variables it was rendered with.

        Raises:
            DataFormatError: If the turns cannot be told apart from the rest with certainty.
        """
        kwargs = template_kwargs or {}
        skeleton = self._skeleton(messages, tools, kwargs)
        spans = None if skeleton is None else skeleton.locate(text, messages)
        if spans is not None:
            return spans
        scene = Scene(template=self._template, messages=messages, tools=tools, template_kwargs=kwargs, text=text)
        return list(_search(scene))

    def _skeleton(
        self, messages: list[Message], tools: list[Any] | None, template_kwargs: Mapping[str, Any]
    ) -> Skeleton | None:
        hidden = hide_contents(messages)
        shape = json.dumps([hidden, tools, template_kwargs], default=str)
        if shape not in self._skeletons:
            if len(self._skeletons) >= _KEPT_SHAPES:
                self._skeletons.clear()
            self._skeletons[shape] = build_skeleton(self._template, hidden, tools, template_kwargs)
        return self._skeletons[shape]


def _search(scene: Scene) -> Iterator[Span]:
    """Yield the turns, each found by rendering the messages before it."""
    if not scene.template.generation_prompt:
        raise scene.uncertain(None, "it has no generation prompt to tell a header from the text")
    cursor = 0
    for index, message in enumerate(scene.messages):
        if message["role"] != "assistant":
            continue
        start = scene.turn_start(index)
        if start < cursor:
            raise scene.uncertain(index, "its rendering starts inside the turn before")
        cursor = scene.stop_after(start, len(scene.text), index=index, said=strings_in(scene.messages))
        yield start, cursor
