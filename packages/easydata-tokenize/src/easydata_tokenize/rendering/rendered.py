"""A rendered conversation: the text, and whose words stand where in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple, TypeAlias, final

from easydata_tokenize.rendering.trace import Run, Trace
from easydata_tokenize.rendering.traced_conversation import Leaf

__all__ = ["Block", "RenderedConversation", "Span"]

Span: TypeAlias = tuple[int, int]
"""Characters `[start, end)` of a rendered conversation."""

Letter: TypeAlias = tuple[tuple[int, ...], int]
"""The leaves of a letter and its number in them; -1 = it was changed on the way."""

_THOUGHT_MARK = re.compile(r"</?[^<>\s]*(?:think|thought|reason)[^<>\s]*>|\[/?THINK\]", re.IGNORECASE)


class Block(NamedTuple):
    """Letters of one message with nobody else's between them; the template's own may stand there."""

    message: int | None
    """Index of the message; None = a description of a tool, or letters of several messages."""
    start: int
    end: int
    last: Letter
    """Its last letter."""


@final
@dataclass(frozen=True)
class RenderedConversation:
    """What a template made of a conversation.

    Args:
        text: The text.
        runs: Origins of its letters.
        leaves: Texts of the conversation.
        trace: What the template asked.
    """

    text: str
    runs: tuple[Run, ...]
    leaves: Sequence[Leaf]
    trace: Trace

    @cached_property
    def blocks(self) -> list[Block]:
        """The messages' own words in the order in which they stand.

        What was printed before is an echo (a tool's name above its answer, say) and belongs to nobody.
        """
        seen: dict[int, list[Span]] = {}
        blocks: list[Block] = []
        position = 0
        for length, sources, offset, _ in self.runs:
            position += length
            if not sources or _is_echo(seen, sources, offset, length):
                continue
            owners = {self.leaves[source].message for source in sources}
            owner = owners.pop() if len(owners) == 1 else None
            last = (sources, offset if offset < 0 else offset + length)
            if blocks and blocks[-1].message == owner and owner is not None:
                blocks[-1] = blocks[-1]._replace(end=position, last=last)
            else:
                blocks.append(Block(owner, position - length, position, last))
        return blocks

    @property
    def edges(self) -> list[int]:
        """Where what the template put out in one piece begins and ends."""
        return list(accumulate(run.length for run in self.runs))

    def leaf_at(self, position: int) -> int | None:
        """Returns the leaf whose first letter stands there; None if there is none such."""
        start = 0
        for length, sources, offset, _ in self.runs:
            if start == position and length:
                return sources[0] if len(sources) == 1 and offset == 0 else None
            start += length
        return None

    @cached_property
    def generated(self) -> list[Span]:
        """What stands inside generation marks."""
        spans: list[Span] = []
        position = 0
        for run in self.runs:
            if run.generated and spans and spans[-1][1] == position:
                spans[-1] = (spans[-1][0], position + run.length)
            elif run.generated and run.length:
                spans.append((position, position + run.length))
            position += run.length
        return spans

    @cached_property
    def unrendered(self) -> dict[str, int]:
        """How many leaves of each kind are not printed, or not wholly; white space and marks of thoughts apart."""
        counts: dict[str, int] = {}
        for _, kind in self._lost():
            counts[kind] = counts.get(kind, 0) + 1
        return counts

    @property
    def misses(self) -> int:
        """What another form of the conversation might mend: texts that are not printed, values printed as data."""
        return self.trace.raw_values + self.wholly_lost

    @cached_property
    def wholly_lost(self) -> int:
        """How many leaves are not printed at all, thoughts apart."""
        printed = {source for run in self.runs for source in run.sources}
        return sum(1 for index, kind in self._lost() if kind != "reasoning" and index not in printed)

    def _lost(self) -> Iterable[tuple[int, str]]:
        seen: dict[int, list[Span]] = {}
        changed: set[int] = set()
        for length, sources, offset, _ in self.runs:
            if offset < 0:
                changed.update(sources)
            for source in sources:
                seen.setdefault(source, []).append((offset, offset + length))
        for index, leaf in enumerate(self.leaves):
            if index in changed or not leaf.text:
                continue
            lost = "".join(_uncovered(leaf.text, seen.get(index, [])))
            if not _THOUGHT_MARK.sub("", lost).strip():
                continue
            is_thought = leaf.kind == "assistant" and _is_thought(leaf.text, lost)
            yield index, "reasoning" if is_thought else leaf.kind


def _is_echo(seen: dict[int, list[Span]], sources: tuple[int, ...], offset: int, length: int) -> bool:
    echo = True
    for source in sources:
        spans = seen.setdefault(source, [])
        here = (0, 1 << 60) if offset < 0 else (offset, offset + length)
        if not any(start < here[1] and here[0] < end for start, end in spans):
            echo = False
        spans.append(here)
    return echo


def _uncovered(text: str, spans: list[Span]) -> Iterable[str]:
    position = 0
    for start, end in sorted(spans):
        if start > position:
            yield text[position:start]
        position = max(position, end)
    yield text[position:]


def _is_thought(text: str, lost: str) -> bool:
    """Returns whether what is lost of an answer is the thought at its beginning."""
    marks = list(_THOUGHT_MARK.finditer(text))
    if not marks:
        return False
    return lost.strip() in text[: marks[-1].end()]
