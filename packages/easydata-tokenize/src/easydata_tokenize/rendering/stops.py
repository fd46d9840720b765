"""Where a turn ends: with the token at which the model is to stop, as the template writes it behind this very turn."""

from __future__ import annotations

from functools import cached_property
from typing import final

from easydata_tokenize.rendering.rendered import Block
from easydata_tokenize.rendering.row_parts import RowParts, doubt

__all__ = ["StopFinder"]


@final
class StopFinder:
    """Finds what ends the turns of one row.

    Args:
        parts: The row.
    """

    def __init__(self, parts: RowParts) -> None:
        self._parts, self._marks = parts, parts.marks

    def length(self, index: int, between: str, block: Block | None, behind: int) -> int:
        """Returns how many of the letters behind a turn belong to it: its stop tokens and what stands before them.

        Args:
            index: The turn's message.
            between: The letters from its last word to the next message's first.
            block: Its words; None if it has none.
            behind: Where they end, or where the turn begins.

        Raises:
            DataFormatError: If nothing confirms what stands there.
        """
        ends = self._ends(index, block, behind)
        whole = [end for end in ends if self._marks.common(between, end) >= len(end.rstrip())]
        stopping = [end for end in whole if self._marks.last_special(end)]
        if stopping:
            return self._stop_in(min(stopping, key=len))
        eos, followed = self._parts.eos, self._is_followed(index, behind)
        if eos and followed and eos in between and any(eos in end for end in ends):
            return self._stop_in(between[: between.index(eos) + len(eos)])
        for closing in self._closings():
            if between.startswith(closing) and self._marks.last_special(closing):
                return self._stop_in(closing)
        if followed and self._marks.last_special(between):
            stop = self._before_next(index, between, ends)
            if stop is not None:
                return stop
        if self._marks.last_special("".join(ends)):
            if not self._marks.last_special(between):
                return 0  # this turn and the next are one
            raise doubt(index, f"behind it stands {between[:60]!r}, and alone the turn ends in {ends[0][:60]!r}")
        # Some templates end turns with a text that is no special token of this tokenizer.
        return max((self._marks.common(between, end) for end in ends), default=0)

    def _before_next(self, index: int, between: str, ends: list[str]) -> int | None:
        """Returns the same by the header of the next message, which stands behind the stop; None if that leaves a
        doubt.
        """
        header = self._header_behind(index)
        shared = self._marks.common_end(between, header)
        closing = self._before_header(between[: len(between) - shared])
        # A header that stands there whole leaves no doubt; else all that is known must be that there is some stop.
        whole_header = shared and (shared == len(header) or header[-shared:].startswith(self._any_header or header))
        if not closing.strip() and (whole_header or not all(map(str.strip, ends))):
            return 0  # the next message begins at once
        if self._marks.last_special(closing) and (whole_header or not any(map(self._marks.last_special, ends))):
            return self._stop_in(closing)
        return None

    def _ends(self, index: int, block: Block | None, behind: int) -> list[str]:
        """Returns what the template writes behind the turn when nothing follows it, and when an answer is asked for."""
        parts, prompt = self._parts, self._parts.prompt
        alone = parts.tail(parts.part(index + 1, False), block, behind)
        going_on = parts.tail(parts.part(index + 1, True), block, behind)
        if alone is None and going_on is None:
            alone = parts.tail(parts.part(index + 1, False, asked=True), block, behind)
        if going_on is not None and prompt:
            going_on = going_on.removesuffix(prompt) if going_on.endswith(prompt) else None
        return [self._before_header(end) for end in (alone, going_on) if end is not None]

    def _stop_in(self, closing: str) -> int:
        """Returns where the stop ends in what closes a turn: behind the EOS token, else behind the last special
        token.
        """
        eos = self._parts.eos
        for other in self._closings():
            # Everybody's messages end like this; what comes behind ends the text, not the turn.
            ends = other[: self._marks.last_special(other)].lstrip()
            if eos and eos in ends:
                ends = ends[: ends.index(eos) + len(eos)]
            if ends and ends in closing:
                return closing.index(ends) + len(ends)
        if eos and eos in closing:
            return closing.index(eos) + len(eos)
        return self._marks.last_special(closing)

    def _closings(self) -> list[str]:
        """Returns how the row ends messages that the assistant answers."""
        parts, prompt = self._parts, self._parts.prompt
        closings = []
        for index in range(len(parts.messages)):
            if not prompt or parts.role(index) != "assistant":
                continue
            blocks = parts.blocks_of(index)
            anchor = parts.anchor(index, blocks[0].start) if blocks else 0
            gap = parts.text[anchor : blocks[0].start] if anchor else ""
            if not blocks and (part := parts.part(index, True)) and part.blocks:
                gap = part.text[part.blocks[-1].end :]
            if prompt in gap:
                closings.append(gap[: gap.index(prompt)])
        return closings

    def _is_followed(self, index: int, behind: int) -> bool:
        """Returns whether the next words are those of the next message, if there is one; other messages may have no
        words.
        """
        blocks = self._parts.rendered.blocks
        following = (block.message for block in blocks if block.start >= behind and block.message is not None)
        return next(following, index + 1) <= index + 1

    # Headers of other messages, which no turn holds.

    def _before_header(self, closing: str) -> str:
        """Returns what closes a turn, up to the message of its own that some templates write at their end."""
        header = self._any_header
        return closing[: closing.index(header)] if header and header in closing else closing

    @cached_property
    def _any_header(self) -> str:
        """What the generation prompt and the headers of other messages of the row begin with; "" if with nothing."""
        prompt = (self._parts.prompt or "").lstrip()
        first = self._marks.special.match(prompt)
        for block in self._parts.rendered.blocks if first else ():
            if block.message is None or self._parts.role(block.message) == "assistant":
                continue
            gap = self._parts.text[self._parts.anchor(block.message, block.start) : block.start]
            at = gap.rfind(first.group()) if first else -1
            if at >= 0:
                return prompt[: self._marks.common(prompt, gap[at:])]
        return ""

    def _header_behind(self, index: int) -> str:
        """Returns what stands before a message like the next one where no turn of the assistant is before it."""
        parts = self._parts
        later = next((block for block in parts.rendered.blocks if (block.message or 0) > index), None)
        if later is None or later.message is None:
            return ""
        role = parts.role(later.message)
        for block in parts.rendered.blocks:
            number = block.message
            if number is None or parts.role(number) != role or number >= later.message:
                continue
            before = parts.anchor(number, block.start)
            if not before or parts.role(number - 1) != "assistant":
                header = parts.text[before : block.start]
                return header if number else self._without_front(header)
        around = parts.around_sample(0, role)
        return "" if around is None else self._without_front(around[0])

    def _without_front(self, header: str) -> str:
        """Returns the header of the first message without what the template writes before any."""
        front = self._parts.part(0, False)
        if front is None:
            return header
        return header.removeprefix(front.text[front.blocks[-1].end if front.blocks else 0 :])
