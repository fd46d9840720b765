"""Where the assistant's turns begin and end, learnt from renderings of the very row.

A turn begins where the generation prompt ends: the messages before it, rendered with the prompt, are laid beside the
row. It ends with the token at which the model is to stop: what the template writes behind the turn when nothing
follows it, as far as that is what stands in the row (`stops.py`). Both are anchored at letters of messages, whose
origin is known, and compared in whole marks.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple, final

from easydata_tokenize.rendering.row_parts import RowParts, doubt
from easydata_tokenize.rendering.stops import StopFinder
from easydata_tokenize.rendering.trace import Trace

__all__ = ["Turn", "TurnFinder"]


class Turn(NamedTuple):
    """One turn of the assistant in a rendered conversation."""

    message: int
    start: int
    end: int
    stops: bool
    """Whether it ends with what the template writes to end it."""


@final
class TurnFinder:
    """Finds turns in one rendered conversation.

    Args:
        parts: The row.
    """

    def __init__(self, parts: RowParts) -> None:
        self._parts, self._marks = parts, parts.marks
        self._stops = StopFinder(parts)
        self.unstopped = False
        """Whether a turn that was found has nothing behind it at which a model could stop."""

    @property
    def traces(self) -> list[Trace]:
        """All that the answers given depend on."""
        return self._parts.traces

    def turns(self, first: int = 0) -> list[Turn]:
        """Returns the assistant's turns from message `first` on that are printed, in order.

        Raises:
            DataFormatError: If a turn cannot be found for certain.
        """
        spoken = [index for index in range(first, len(self._parts.messages)) if self._is_assistant(index)]
        found = [turn for index in spoken if (turn := self._turn(index)) is not None]
        for before, after in pairwise(found):
            if after.start < before.end:
                raise doubt(after.message, "its rendering starts inside the turn before")
        return found

    def start(self, index: int) -> int:
        """Returns where message `index` begins: behind the generation prompt if it is the assistant's.

        Raises:
            DataFormatError: If that is not certain.
        """
        parts = self._parts
        blocks = parts.blocks_of(index)
        limit = blocks[0].start if blocks else parts.next_start(index, 0)
        anchor = parts.anchor(index, limit)
        gap = parts.text[anchor:limit]
        if not self._is_assistant(index):
            before = parts.gap_after(parts.part(index, False), anchor)
            return anchor + self._marks.common(gap, before or "")
        if parts.prompt == "":
            return anchor + self._behind_header(index, gap)
        header = self._header(index, anchor, gap)
        if header is None:
            header = self._searched(gap)
        if header is None:
            raise doubt(index, f"its header cannot be found in {gap[-80:]!r}")
        return anchor + header

    def continues_prompt(self, index: int) -> bool:
        """Returns whether the messages before `index`, rendered with the generation prompt, begin the row."""
        part = self._parts.part(index, self._is_assistant(index))
        return part is not None and self._parts.text.startswith(part.text)

    def text(self, start: int, end: int) -> str:
        """Returns letters of the rendered conversation."""
        return self._parts.text[start:end]

    def text_start(self, index: int) -> int:
        """Returns where the first letter of message `index` stands; the end of the text if it has none."""
        blocks = self._parts.blocks_of(index)
        return blocks[0].start if blocks else len(self._parts.text)

    def text_end(self, index: int) -> int:
        """Returns where the last letter of message `index` ends; where it begins if it has none."""
        blocks = self._parts.blocks_of(index)
        return blocks[-1].end if blocks else self.start(index)

    def ends_untold(self) -> str | None:
        """Returns a note if the last turn ends without a stop: `missing_stop_token` if others like it have one."""
        parts = self._parts
        tail = parts.text[parts.rendered.blocks[-1].end if parts.rendered.blocks else 0 :]
        if self._marks.last_special(tail) or tail.strip():
            return None
        plain = parts.around_sample(len(parts.messages) - 1, "assistant")
        return "missing_stop_token" if plain is not None and plain[1].strip() else "template_without_stop_token"

    def _is_assistant(self, index: int) -> bool:
        return self._parts.role(index) == "assistant"

    def _turn(self, index: int) -> Turn | None:
        parts = self._parts
        blocks = parts.blocks_of(index)
        if not blocks and not self._adds_anything(index):
            here = parts.next_start(index, 0)
            followed = index + 1 < len(parts.messages) and not self._is_assistant(index + 1)
            if followed and self._searched(parts.text[parts.anchor(index, here) : here]) is not None:
                raise doubt(index, "it prints this turn, which has no words, only where others follow")
            return None
        start = self.start(index)
        if len(blocks) > 1:
            raise doubt(index, "it prints other messages inside this turn")
        behind = blocks[0].end if blocks else start
        between = parts.text[behind : parts.next_start(index, behind)]
        stop = self._stops.length(index, between, blocks[0] if blocks else None, behind)
        if not blocks and not stop:
            return None
        goes_on = index + 1 < len(parts.messages) and self._is_assistant(index + 1)
        self.unstopped = self.unstopped or not (stop or goes_on)
        return Turn(index, start, behind + stop, stop > 0)

    def _adds_anything(self, index: int) -> bool:
        before, after = self._parts.part(index, False), self._parts.part(index + 1, False)
        return before is None or after is None or before.text != after.text

    # Headers.

    def _header(self, index: int, anchor: int, gap: str) -> int | None:
        """Returns how much of the gap before a turn is what the generation prompt writes there; None if it is
        another's.
        """
        prompt = self._parts.prompt or ""
        part = self._parts.part(index, True)
        before = self._parts.gap_after(part, anchor)
        if part is None or before is None or (not before.endswith(prompt) and self._searched(gap) is not None):
            return None
        if before.startswith(gap) and self._parts.begins_with(anchor + len(gap), before[len(gap) :]):
            return len(before)  # the message itself begins as the prompt ends, with a thought, say
        shared = self._marks.common(gap, before)
        if shared == len(before) or not gap.strip():
            return shared
        if prompt.strip() and prompt.strip() in gap:
            return None  # the template writes a message of its own before the first one's header
        # The turn does not go on as the prompt would have it.
        asking = prompt if before.endswith(prompt) else self._parts.added(index)
        closing = len(before) - len(asking)
        ending = self._marks.common_end(gap, before)
        if shared >= closing and not gap[closing:shared].strip() and gap[len(gap) - ending :].strip():
            return len(gap)  # but both end alike, with a thought that is closed, say
        # What the template wrote in one piece stays together.
        pieces = [edge - len(part.text) + len(before) for edge in part.edges]
        header = max((edge for edge in pieces if closing < edge <= shared), default=shared)
        # Where nothing but the end of the message before is shared, a turn goes on without a header, or has another.
        return header if header > closing or shared == len(gap) else None

    def _behind_header(self, index: int, gap: str) -> int:
        """Without a generation prompt, a header is what stands before the text of a plain answer too."""
        plain = self._parts.around_sample(index, "assistant")
        if plain is None:
            raise doubt(index, "it has no generation prompt to tell a header from the text")
        return len(gap[: self._marks.common(gap, plain[0])].rstrip(" "))

    def _searched(self, gap: str) -> int | None:
        """Returns where the generation prompt, or the longest beginning of it, ends for the last time; None if
        nowhere.
        """
        prompt = (self._parts.prompt or "").lstrip()
        first = self._marks.special.match(prompt)
        lead = (
            first.group() if first else prompt[: self._marks.common(prompt, prompt.split(None, 1)[0])] if prompt else ""
        )
        longest, end = 0, None
        at = gap.rfind(lead) if lead else -1
        while at >= 0:
            shared = self._marks.common(gap[at:], prompt)
            if shared > longest:
                longest, end = shared, at + shared
            at = gap.rfind(lead, 0, at)
        return end
