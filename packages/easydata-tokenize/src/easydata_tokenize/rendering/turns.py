"""Where the assistant's turns begin and end, learnt from renderings of the very row.

A turn begins where the generation prompt ends: the messages before it, rendered with the prompt, are laid beside the
row. It ends with the token at which the model is to stop: what the template writes behind the turn when nothing
follows it, as far as that is what stands in the row. Both are anchored at letters of messages, whose origin is known,
and compared in whole marks.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple, final

from easydata_sources.errors import DataFormatError

from easydata_tokenize.conversation import Message
from easydata_tokenize.rendering.rendered import Block, RenderedConversation
from easydata_tokenize.rendering.template import ChatTemplate, Conversation
from easydata_tokenize.rendering.traced_conversation import TracedConversation
from easydata_tokenize.rendering.traced_text import Answer, Trace

__all__ = ["Turn", "TurnFinder"]

_SAMPLE = "\ue0a8\ue0a9"


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
        template: The template.
        conversation: The row.
        traced: The row in the form in which it was rendered.
        rendered: What came out.
    """

    def __init__(
        self,
        template: ChatTemplate,
        conversation: Conversation,
        traced: TracedConversation,
        rendered: RenderedConversation,
    ) -> None:
        self._template, self._marks = template, template.marks
        self._kwargs = dict(conversation.template_kwargs or {})
        self._traced, self._rendered = traced, rendered
        self._parts: dict[Any, RenderedConversation | None] = {}
        self._own = Trace()

    @property
    def traces(self) -> list[Trace]:
        """All that the answers given depend on."""
        return [self._own, *(part.trace for part in self._parts.values() if part is not None)]

    def turns(self, first: int = 0) -> list[Turn]:
        """Return the assistant's turns from message `first` on that are printed, in order.

        Raises:
            DataFormatError: If a turn cannot be found for certain.
        """
        messages = self._traced.messages
        spoken = [index for index in range(first, len(messages)) if messages[index]["role"] == "assistant"]
        found = [turn for index in spoken if (turn := self._turn(index)) is not None]
        for before, after in pairwise(found):
            if after.start < before.end:
                raise self._doubt(after.message, "its rendering starts inside the turn before")
        return found

    def start(self, index: int) -> int:
        """Return where message `index` begins: behind the generation prompt if it is the assistant's.

        Raises:
            DataFormatError: If that is not certain.
        """
        blocks = self._blocks_of(index)
        limit = blocks[0].start if blocks else self._next_start(index, 0)
        anchor = self._anchor(index, limit)
        gap = self._rendered.text[anchor:limit]
        if self._traced.messages[index]["role"] != "assistant":
            before = self._gap_after(self._part(index, False), anchor)
            return anchor + self._marks.common(gap, before or "")
        if self._prompt == "":
            return anchor + self._behind_header(index, gap)
        header = self._header(index, anchor, gap)
        if header is None:
            header = self._searched(gap)
        if header is None:
            raise self._doubt(index, f"its header cannot be found in {gap[-80:]!r}")
        return anchor + header

    def _header(self, index: int, anchor: int, gap: str) -> int | None:
        """How much of the gap before a turn is what the generation prompt writes there; None if it is another's."""
        prompt = self._prompt or ""
        part = self._part(index, True)
        before = self._gap_after(part, anchor)
        if part is None or before is None or (not before.endswith(prompt) and self._searched(gap) is not None):
            return None
        if before.startswith(gap) and self._begins_with(anchor + len(gap), before[len(gap) :]):
            return len(before)  # the message itself begins as the prompt ends, with a thought, say
        shared = self._marks.common(gap, before)
        if shared == len(before) or not gap.strip():
            return shared
        # The turn does not go on as the prompt would have it. What the template wrote in one piece stays together.
        closing = len(before) - len(prompt) if before.endswith(prompt) else 0
        pieces = [edge - len(part.text) + len(before) for edge in part.edges]
        header = max((edge for edge in pieces if closing < edge <= shared), default=shared)
        # Where nothing but the end of the message before is shared, a turn goes on without a header, or has another.
        return header if header > closing or shared == len(gap) else None

    def continues_prompt(self, index: int) -> bool:
        """Return whether the messages before `index`, rendered with the generation prompt, begin the row."""
        part = self._part(index, self._traced.messages[index]["role"] == "assistant")
        return part is not None and self._rendered.text.startswith(part.text)

    def text(self, start: int, end: int) -> str:
        """Return letters of the rendered conversation."""
        return self._rendered.text[start:end]

    def text_start(self, index: int) -> int:
        """Return where the first letter of message `index` stands; the end of the text if it has none."""
        blocks = self._blocks_of(index)
        return blocks[0].start if blocks else len(self._rendered.text)

    def text_end(self, index: int) -> int:
        """Return where the last letter of message `index` ends; where it begins if it has none."""
        blocks = self._blocks_of(index)
        return blocks[-1].end if blocks else self.start(index)

    def ends_untold(self) -> str | None:
        """Return a note if the last turn ends without a stop: `missing_stop_token` if others like it would have one."""
        last = len(self._traced.messages) - 1
        tail = self._rendered.text[self._rendered.blocks[-1].end if self._rendered.blocks else 0 :]
        if self._marks.last_special(tail) or tail.strip():
            return None
        plain = self._part(last, False, [_sample("assistant", self._in_parts)])
        other = "" if plain is None else plain.text.rpartition(_SAMPLE)[2]
        return "missing_stop_token" if other.strip() else "template_without_stop_token"

    def _turn(self, index: int) -> Turn | None:
        blocks = self._blocks_of(index)
        if not blocks and not self._adds_anything(index):
            here = self._next_start(index, 0)
            following = self._traced.messages[index + 1 : index + 2]
            answered = bool(following) and following[0]["role"] != "assistant"
            if answered and self._searched(self._rendered.text[self._anchor(index, here) : here]) is not None:
                raise self._doubt(index, "it prints this turn, which has no words, only where others follow")
            return None
        start = self.start(index)
        if len(blocks) > 1:
            raise self._doubt(index, "it prints other messages inside this turn")
        behind = blocks[0].end if blocks else start
        limit = self._next_start(index, behind)
        stop = self._stop(index, self._rendered.text[behind:limit], blocks[0] if blocks else None, behind)
        if not blocks and not stop:
            return None
        return Turn(index, start, behind + stop, stop > 0)

    def _stop(self, index: int, between: str, block: Block | None, behind: int) -> int:
        """How many of the letters behind a turn belong to it: its stop tokens and what stands before them."""
        alone = self._tail(self._part(index + 1, False), block, behind)
        going_on = self._tail(self._part(index + 1, True), block, behind)
        if alone is None and going_on is None:
            alone = self._tail(self._part(index + 1, False, asked=True), block, behind)
        if going_on is not None and self._prompt:
            going_on = going_on.removesuffix(self._prompt) if going_on.endswith(self._prompt) else None
        ends = [self._before_header(end) for end in (alone, going_on) if end is not None]
        whole = [end for end in ends if self._marks.common(between, end) >= len(end.rstrip())]
        stopping = [end for end in whole if self._marks.last_special(end)]
        if stopping:
            return self._stop_in(min(stopping, key=len))
        eos, followed = self._template.eos, self._is_followed(index, behind)
        if eos and followed and eos in between and any(eos in end for end in ends):
            return self._stop_in(between[: between.index(eos) + len(eos)])
        for closing in self._closings():
            if between.startswith(closing) and self._marks.last_special(closing):
                return self._stop_in(closing)
        if followed and self._marks.last_special(between):
            header = self._marks.common_end(between, self._header_behind(index))
            closing = self._before_header(between[: len(between) - header])
            if self._marks.last_special(closing) and not any(map(self._marks.last_special, ends)):
                return self._stop_in(closing)
        if self._marks.last_special("".join(ends)):
            if not self._marks.last_special(between):
                return 0  # this turn and the next are one
            raise self._doubt(index, f"behind it stands {between[:60]!r}, and alone the turn ends in {ends[0][:60]!r}")
        # Some templates end turns with a text that is no special token of this tokenizer.
        return max((self._marks.common(between, end) for end in ends), default=0)

    def _before_header(self, closing: str) -> str:
        """What closes a turn, up to the message of its own that some templates write at their end."""
        header = self._any_header
        return closing[: closing.index(header)] if header and header in closing else closing

    @cached_property
    def _any_header(self) -> str:
        """What the generation prompt and the headers of other messages of the row begin with; "" if with nothing."""
        prompt = (self._prompt or "").lstrip()
        first = self._marks.special.match(prompt)
        for block in self._rendered.blocks if first else ():
            if block.message is None or self._traced.messages[block.message]["role"] == "assistant":
                continue
            gap = self._rendered.text[self._anchor(block.message, block.start) : block.start]
            at = gap.rfind(first.group()) if first else -1
            if at >= 0:
                return prompt[: self._marks.common(prompt, gap[at:])]
        return ""

    def _stop_in(self, closing: str) -> int:
        """Where the stop ends in what closes a turn: behind the EOS token, else behind the last special token."""
        for other in self._closings():
            # Everybody's messages end like this; what comes behind ends the text, not the turn.
            ends = other[: self._marks.last_special(other)].lstrip()
            if ends and ends in closing:
                return closing.index(ends) + len(ends)
        eos = self._template.eos
        if eos and eos in closing:
            return closing.index(eos) + len(eos)
        return self._marks.last_special(closing)

    def _closings(self) -> list[str]:
        """How the row ends messages that the assistant answers."""
        prompt = self._prompt
        closings = []
        for index, message in enumerate(self._traced.messages):
            if not prompt or message["role"] != "assistant":
                continue
            blocks = self._blocks_of(index)
            anchor = self._anchor(index, blocks[0].start) if blocks else 0
            gap = self._rendered.text[anchor : blocks[0].start] if anchor else ""
            if not blocks and (part := self._part(index, True)) and part.blocks:
                gap = part.text[part.blocks[-1].end :]
            if prompt in gap:
                closings.append(gap[: gap.index(prompt)])
        return closings

    def _is_followed(self, index: int, behind: int) -> bool:
        """Whether the next words are those of the next message, if there is one; other messages may have no words."""
        following = (
            block.message for block in self._rendered.blocks if block.start >= behind and block.message is not None
        )
        return next(following, index + 1) <= index + 1

    def _header_behind(self, index: int) -> str:
        """What stands before a message like the next one where no turn of the assistant is before it."""
        later = next((block for block in self._rendered.blocks if (block.message or 0) > index), None)
        if later is None or later.message is None:
            return ""
        role = self._traced.messages[later.message]["role"]
        for block in self._rendered.blocks:
            number = block.message
            if number is None or self._traced.messages[number]["role"] != role or number >= later.message:
                continue
            before = self._anchor(number, block.start)
            if not before or self._traced.messages[number - 1]["role"] != "assistant":
                return self._rendered.text[before : block.start]
        alone = self._part(0, False, [_sample(role, self._in_parts)])
        return "" if alone is None else alone.text.partition(_SAMPLE)[0]

    def _begins_with(self, position: int, beginning: str) -> bool:
        """Whether a message begins with this at `position`; that is a question to the text like a template's."""
        answer = bool(beginning) and self._rendered.text.startswith(beginning, position)
        leaf = self._rendered.leaf_at(position)
        if beginning and leaf is not None:
            self._own.answers[Answer(leaf, "startswith", (beginning,), answer)] = None
        self._own.repeatable = self._own.repeatable and (leaf is not None or not beginning)
        return answer

    # Renderings of parts of the row.

    def _part(
        self, count: int, prompted: bool, extra: Sequence[Message] = (), *, asked: bool = False
    ) -> RenderedConversation | None:
        """The first messages, perhaps with others behind or a question before them; None if that cannot be rendered."""
        key = (count, prompted, len(extra) and extra[0]["role"], asked)
        if key not in self._parts:
            messages = [*self._traced.messages[:count], *extra]
            if asked:
                first = next((at for at, message in enumerate(messages) if message["role"] != "system"), 0)
                messages.insert(first, _sample("user", self._in_parts))
            kwargs = {**self._kwargs, "add_generation_prompt": prompted}
            self._parts[key] = self._template.rendered_part(self._traced, messages, kwargs)
            # What refuses may refuse because of what a text says.
            self._own.repeatable = self._own.repeatable and self._parts[key] is not None
        return self._parts[key]

    @cached_property
    def _prompt(self) -> str | None:
        """What the template adds to ask for an answer, "" if nothing; None if that cannot be told."""
        messages = self._traced.messages
        asking = [
            index + 1
            for index, message in enumerate(messages)
            if message["role"] != "assistant"
            and (messages[index + 1 :] or [{"role": "assistant"}])[0]["role"] == "assistant"
        ]
        for count in [*asking[:2], len(messages)]:
            if prompt := self._added(self._part(count, True), self._part(count, False)):
                return prompt
        known = [self._added(self._part(count, True), self._part(count, False)) for count in asking[:2]]
        for count in (0, len(messages)):
            question = [_sample("user", self._in_parts)]
            known.append(self._added(self._part(count, True, question), self._part(count, False, question)))
        return max((prompt for prompt in known if prompt is not None), key=len, default=None)

    @property
    def _in_parts(self) -> bool:
        return any(isinstance(message.get("content"), list) for message in self._traced.messages)

    def _added(self, prompted: RenderedConversation | None, bare: RenderedConversation | None) -> str | None:
        if prompted is None or bare is None:
            return None
        # A template may end what nothing follows in its own way.
        return prompted.text[self._marks.common(bare.text, prompted.text) :]

    # Places in the row.

    def _blocks_of(self, index: int) -> list[Block]:
        return [block for block in self._rendered.blocks if block.message == index]

    def _next_start(self, index: int, position: int) -> int:
        later = (
            block.start for block in self._rendered.blocks if block.start >= position and (block.message or 0) > index
        )
        return min(later, default=len(self._rendered.text))

    def _anchor(self, index: int, limit: int) -> int:
        """Where the last word of somebody else before message `index` ends."""
        earlier = (block.end for block in self._rendered.blocks if block.end <= limit and block.message != index)
        return max(earlier, default=0)

    def _gap_after(self, part: RenderedConversation | None, anchor: int) -> str | None:
        """What stands at the end of a rendering behind the word that ends at `anchor` in the row."""
        if part is None:
            return None
        ours = next((block.last for block in self._rendered.blocks if block.end == anchor), None)
        theirs = part.blocks[-1] if part.blocks else None
        if (theirs.last if theirs else None) != ours:
            return None
        return part.text[theirs.end if theirs else 0 :]

    def _tail(self, part: RenderedConversation | None, block: Block | None, behind: int) -> str | None:
        """What stands in a rendering behind the last word of a turn."""
        if part is None:
            return None
        if block is None:
            return self._gap_behind_empty(part, behind)
        ends = [other.end for other in part.blocks if other.last == block.last]
        return part.text[ends[-1] :] if ends else None

    def _gap_behind_empty(self, part: RenderedConversation, behind: int) -> str | None:
        anchor = max((block.end for block in self._rendered.blocks if block.end <= behind), default=0)
        gap = self._gap_after(part, anchor)
        written = self._rendered.text[anchor:behind]
        return gap[len(written) :] if gap is not None and gap.startswith(written) else None

    def _adds_anything(self, index: int) -> bool:
        before, after = self._part(index, False), self._part(index + 1, False)
        return before is None or after is None or before.text != after.text

    def _behind_header(self, index: int, gap: str) -> int:
        """Without a generation prompt, a header is what stands before the text of a plain answer too."""
        plain = self._part(index, False, [_sample("assistant", self._in_parts)])
        at = -1 if plain is None else plain.text.rfind(_SAMPLE)
        if plain is None or at < 0:
            raise self._doubt(index, "it has no generation prompt to tell a header from the text")
        ends = [block.end for block in plain.blocks if block.end <= at]
        header = plain.text[max(ends, default=0) : at]
        return len(gap[: self._marks.common(gap, header)].rstrip(" "))

    def _searched(self, gap: str) -> int | None:
        """Where the generation prompt, or the longest beginning of it, ends for the last time; None if nowhere."""
        prompt = (self._prompt or "").lstrip()
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

    def _doubt(self, index: int, reason: str) -> DataFormatError:
        return DataFormatError(
            "Cannot tell exactly which letters of this conversation the assistant wrote.",
            column=f"messages[{index}]",
            found=f"the chat template has no generation marks, and {reason}",
            expected="assistant turns that can be found with certainty",
            mend="put {% generation %} … {% endgeneration %} around the assistant's text and stop token in the chat "
            "template, or train on all tokens with assistant_only_loss=False",
        )


def _sample(role: str, in_parts: bool) -> Message:
    return {"role": role, "content": [{"type": "text", "text": _SAMPLE}] if in_parts else _SAMPLE}
