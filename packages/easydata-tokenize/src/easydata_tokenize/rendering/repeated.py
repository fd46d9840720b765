"""Rendering without running the template: the second conversation of a shape is put together from the first.

A trace says all that a template asked of the texts. A conversation of the same roles whose texts give the same answers
is rendered to the same letters around its own texts, and its turns begin and end at the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, final

from easydata_tokenize.conversation import Message
from easydata_tokenize.rendering.rendered import RenderedConversation
from easydata_tokenize.rendering.trace import Answer, Trace, answers_alike

__all__ = ["Repeated", "RepeatedRenderings", "shape_of"]

_MOST_SHAPES = 4096
_MOST_ALIKE = 8


@dataclass(frozen=True, slots=True)
class Repeated:
    """A conversation put together.

    Attributes:
        text: what the template would make of it.
        edges: where the letters are that were asked for.
        notes: what was noted of the first one.
    """

    text: str
    edges: tuple[int, ...]
    notes: tuple[str, ...]


@dataclass(slots=True)
class _Pattern:
    answers: tuple[Answer, ...]
    pieces: tuple[str | int, ...]
    """The template's letters, and the numbers of messages whose text stands between them."""
    edges: tuple[tuple[int, int], ...]
    """Each as a piece and letters behind its beginning."""
    notes: tuple[str, ...]
    checked: bool = False


@final
class RepeatedRenderings:
    """Remembers how conversations of each shape are rendered."""

    def __init__(self) -> None:
        self._known: dict[Hashable, list[_Pattern]] = {}

    def find(self, shape: Hashable, messages: Sequence[Message], render: Callable[[], str]) -> Repeated | None:
        """Returns the conversation as it would be rendered; None if only the template can tell.

        Args:
            shape: What `shape_of` says of it, with all else that its rendering depends on.
            messages: The conversation.
            render: Renders it by the template; used once for each shape, to make sure.
        """
        patterns = self._known.get(shape)
        if not patterns:
            return None
        texts: list[str] = [message["content"] for message in messages]
        for pattern in patterns:
            if not answers_alike(pattern.answers, texts):
                continue
            pieces = [piece if isinstance(piece, str) else texts[piece] for piece in pattern.pieces]
            text = "".join(pieces)
            if not pattern.checked:
                if render() != text:
                    patterns.remove(pattern)
                    return None
                pattern.checked = True
            if not pattern.edges:
                return Repeated(text, (), pattern.notes)
            starts = list(accumulate(map(len, pieces), initial=0))
            return Repeated(text, tuple(starts[piece] + letters for piece, letters in pattern.edges), pattern.notes)
        return None

    def remember(
        self,
        shape: Hashable,
        rendered: RenderedConversation,
        *,
        traces: Iterable[Trace] = (),
        edges: Sequence[int] = (),
        notes: Sequence[str] = (),
    ) -> None:
        """Keeps a rendering for conversations like it, if the trace proves that it can be kept.

        Args:
            shape: As of `find`.
            rendered: The conversation.
            traces: What edges and notes depend on besides.
            edges: Letters of the text to be found again.
            notes: What is to be noted of every conversation like it.
        """
        asked = [rendered.trace, *traces]
        pieces = _pieces(rendered)
        if pieces is None or not all(trace.repeatable for trace in asked) or len(self._known) >= _MOST_SHAPES:
            return
        placed = [_placed(pieces, rendered, edge) for edge in edges]
        if any(place is None for place in placed):
            return
        answers = tuple(dict.fromkeys(answer for trace in asked for answer in trace.answers))
        patterns = self._known.setdefault(shape, [])
        if len(patterns) < _MOST_ALIKE and all(answer.leaf < len(rendered.leaves) for answer in answers):
            known = tuple(place for place in placed if place is not None)
            patterns.append(_Pattern(answers, tuple(pieces), known, tuple(notes)))


def shape_of(messages: Sequence[Message], tools: Any, variables: Any) -> Hashable | None:
    """Returns what conversations have in common that may be rendered alike; None if this one is like no other.

    Args:
        messages: The conversation.
        tools: Its tools.
        variables: Further variables of the template.
    """
    if tools is not None:
        return None
    shape: list[Hashable] = [repr(variables)] if variables else []
    for message in messages:
        content = message.get("content")
        if len(message) != 2 or type(content) is not str or type(message.get("role")) is not str:
            return None
        # A text that is empty is nowhere to be seen in a rendering.
        shape.append((message["role"], not content))
    return tuple(shape)


def _pieces(rendered: RenderedConversation) -> list[str | int] | None:
    pieces: list[str | int] = []
    position = 0
    for length, sources, offset, _ in rendered.runs:
        if not sources:
            pieces.append(rendered.text[position : position + length])
        elif len(sources) == 1 and offset == 0 and length == len(rendered.leaves[sources[0]].text):
            pieces.append(sources[0])
        else:
            return None
        position += length
    return pieces


def _placed(pieces: list[str | int], rendered: RenderedConversation, edge: int) -> tuple[int, int] | None:
    position = 0
    for number, run in enumerate(rendered.runs):
        if position <= edge < position + run.length or number == len(pieces) - 1:
            inside = edge - position
            if isinstance(pieces[number], str) or inside == 0:
                return number, inside
            # Behind the last text there is no piece to begin at.
            return (number + 1, 0) if inside == run.length else None
        position += run.length
    return 0, 0
