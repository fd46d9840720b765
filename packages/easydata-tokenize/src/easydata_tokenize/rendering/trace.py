"""What one rendering does with the texts of a conversation: whose letters it prints, and what it asks of them.

If a template asked nothing else of a text than what is noted, then another text that gives the same answers is rendered
in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeAlias, final

__all__ = ["ASKING", "CHANGING", "Answer", "Run", "Runs", "Trace", "answers_alike", "current_trace", "unrepeatable"]

ASKING = ("startswith", "endswith", "find", "rfind", "index", "rindex", "count", "encode", "isalnum", "isalpha")
ASKING += ("isascii", "isdecimal", "isdigit", "isidentifier", "islower", "isnumeric", "isprintable", "isspace")
ASKING += ("istitle", "isupper")
"""Methods of strings that say something of a text."""
CHANGING = ("capitalize", "casefold", "center", "expandtabs", "ljust", "lower", "rjust", "swapcase", "title")
CHANGING += ("translate", "upper", "zfill")
"""Methods that make another text of it, or leave it alone."""


class Run(NamedTuple):
    """Letters of one origin, side by side."""

    length: int
    sources: tuple[int, ...]
    """Leaves of the conversation that the letters come from; () = the template wrote them."""
    offset: int
    """Where in the leaf's text they begin; -1 = they come from it, but were changed on the way."""
    generated: bool
    """Whether they stand inside `{% generation %}`."""


Runs: TypeAlias = tuple[Run, ...]


class Answer(NamedTuple):
    """What a template asked of a leaf's text, and what it was told."""

    leaf: int
    question: str
    arguments: tuple[Any, ...]
    answer: Any


@final
class Trace:
    """What one rendering does with the texts of a conversation."""

    def __init__(self) -> None:
        self.answers: dict[Answer, None] = {}
        self.repeatable = True
        """Whether `answers` is all that the rendering depends on."""
        self.raw_values = 0
        """Values that have no text of their own and were printed as data: None, lists and dicts as Python shows them,
        and lists of content parts as JSON."""


current_trace: ContextVar[Trace | None] = ContextVar("current_trace", default=None)


def unrepeatable() -> None:
    """Notes that the rendering that is going on depends on more than is noted."""
    trace = current_trace.get()
    if trace is not None:
        trace.repeatable = False


def answers_alike(answers: Iterable[Answer], texts: Sequence[str | None]) -> bool:
    """Returns whether other texts give the same answers.

    Args:
        answers: What a template asked, and was told.
        texts: The text of every leaf; None for leaves that are no texts.
    """
    for leaf, question, arguments, answer in answers:
        text = texts[leaf]
        if text is None or _QUESTIONS[question](text, *arguments) != answer:
            return False
    return True


def _stays(change: Callable[..., str]) -> Callable[..., bool]:
    return lambda text, *arguments: change(text, *arguments) == text


_QUESTIONS: dict[str, Callable[..., Any]] = {name: getattr(str, name) for name in ASKING}
_QUESTIONS |= {name: _stays(getattr(str, name)) for name in (*CHANGING, "strip", "lstrip", "rstrip")}
_QUESTIONS |= {
    "bool": bool,
    "contains": lambda text, part: part in text,
    "eq": lambda text, other: text == other,
    "len": len,
    "split": lambda text, separator: separator not in text,
    "splitlines": lambda text: text.splitlines() == [text],
}
