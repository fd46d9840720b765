"""Rendering by stencil: the text around the messages' texts, kept for each sequence of roles.

Only for templates that do nothing with a message's text but print it (`template_flow`), and conversations of plain
messages; each stencil is checked once against the template itself. Filling one in costs a hundredth of running it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, final

from easydata_tokenize.conversation import Message

__all__ = ["Stencils"]

Render: TypeAlias = Callable[[list[Message]], str]

_PLAIN = {"role", "content"}
_MOST = 4096
# Characters for private use, which no template writes.
_PLACE = re.compile("\ue0aa([0-9]+)\ue0ab")


@final
class Stencils:
    """The stencils of one template.

    Args:
        usable: Whether the template only prints texts.
    """

    def __init__(self, *, usable: bool) -> None:
        self._usable = usable
        self._known: dict[tuple[Any, ...], tuple[list[str], list[int]]] = {}

    def render(self, messages: Sequence[Message], variant: object, render: Render) -> str | None:
        """Return the conversation as the template renders it; None if only the template itself can tell.

        Args:
            messages: The conversation.
            variant: What else the rendering depends on.
            render: Renders a conversation by the template.
        """
        if not self._usable or not all(map(_is_plain, messages)):
            return None
        contents: list[str] = [message["content"] for message in messages]
        shape = (variant, *(message["role"] for message in messages))
        stencil = self._known.get(shape)
        if stencil is not None:
            return _filled(stencil, contents)
        text = render(list(messages))
        places = [{"role": message["role"], "content": f"\ue0aa{at}\ue0ab"} for at, message in enumerate(messages)]
        pieces = _PLACE.split(render(places))
        stencil = pieces[::2], [int(place) for place in pieces[1::2]]
        if _filled(stencil, contents) != text:
            self._usable = False  # the template does more than its source shows
        elif len(self._known) < _MOST:
            self._known[shape] = stencil
        return text


def _is_plain(message: Message) -> bool:
    content = message.get("content")
    return (
        message.keys() == _PLAIN
        and type(content) is str
        and type(message["role"]) is str
        and bool(content)
        and not content[0].isspace()
        and not content[-1].isspace()
    )


def _filled(stencil: tuple[list[str], list[int]], contents: Sequence[str]) -> str:
    around, places = stencil
    parts = [around[0]]
    for place, after in zip(places, around[1:], strict=True):
        parts += (contents[place], after)
    return "".join(parts)
