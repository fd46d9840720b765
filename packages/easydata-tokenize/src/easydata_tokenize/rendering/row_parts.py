"""A row, and renderings of parts of it to lay beside it: whose words stand where, and what stands between them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, final

from easydata_sources.errors import DataFormatError

from easydata_tokenize.conversation import Message
from easydata_tokenize.rendering.rendered import Block, RenderedConversation
from easydata_tokenize.rendering.template import ChatTemplate, Conversation
from easydata_tokenize.rendering.trace import Answer, Trace
from easydata_tokenize.rendering.traced_conversation import TracedConversation

__all__ = ["RowParts", "doubt"]

_SAMPLE = "\ue0a8\ue0a9"


@final
class RowParts:
    """One rendered conversation, and renderings of parts of it.

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
        self.marks, self.eos = template.marks, template.eos
        self.rendered, self.text = rendered, rendered.text
        self.messages = traced.messages
        self._template, self._traced = template, traced
        self._kwargs = dict(conversation.template_kwargs or {})
        self._parts: dict[Any, RenderedConversation | None] = {}
        self._own = Trace()

    @property
    def traces(self) -> list[Trace]:
        """All that the answers given depend on."""
        return [self._own, *(part.trace for part in self._parts.values() if part is not None)]

    def role(self, index: int) -> str:
        """Returns the role of message `index`."""
        return self.messages[index]["role"]

    # Renderings of parts.

    def part(self, count: int, prompted: bool, *, asked: bool = False) -> RenderedConversation | None:
        """Returns the first messages rendered; None if the template refuses them.

        Args:
            count: How many.
            prompted: Whether with the generation prompt.
            asked: Whether with a made-up question before them.
        """
        return self._rendered_part(count, prompted, (), asked)

    def around_sample(self, count: int, role: str) -> tuple[str, str] | None:
        """Returns what stands before and behind the words of a made-up message that follows the first ones.

        Args:
            count: How many messages stand before it.
            role: Whose it is.

        Returns:
            The template's letters from the last word of somebody to it, and from it to the end; None if it is refused.
        """
        part = self._rendered_part(count, False, [self._sample(role)], False)
        at = -1 if part is None else part.text.rfind(_SAMPLE)
        if part is None or at < 0:
            return None
        earlier = max((block.end for block in part.blocks if block.end <= at), default=0)
        return part.text[earlier:at], part.text[at + len(_SAMPLE) :]

    @cached_property
    def prompt(self) -> str | None:
        """What the template adds to ask for an answer, "" if nothing; None if that cannot be told."""
        following = [*(message["role"] for message in self.messages[1:]), "assistant"]
        asking = [
            index + 1
            for index, message in enumerate(self.messages)
            if message["role"] != "assistant" and following[index] == "assistant"
        ]
        for count in [*asking[:2], len(self.messages)]:
            if prompt := self._added(count):
                return prompt
        question = [self._sample("user")]
        known = [self._added(count) for count in asking[:2]]
        known += [self._added(count, question) for count in (0, len(self.messages))]
        return max((prompt for prompt in known if prompt is not None), key=len, default=None)

    def added(self, count: int) -> str:
        """Returns what the template adds to the first messages to ask for an answer; "" if nothing can be told."""
        return self._added(count) or ""

    def _added(self, count: int, extra: Sequence[Message] = ()) -> str | None:
        prompted, bare = (self._rendered_part(count, asks, extra, False) for asks in (True, False))
        if prompted is None or bare is None:
            return None
        # A template may end what nothing follows in its own way.
        return prompted.text[self.marks.common(bare.text, prompted.text) :]

    def _rendered_part(
        self, count: int, prompted: bool, extra: Sequence[Message], asked: bool
    ) -> RenderedConversation | None:
        key = (count, prompted, len(extra) and extra[0]["role"], asked)
        if key not in self._parts:
            messages = [*self.messages[:count], *extra]
            if asked:
                first = next((at for at, message in enumerate(messages) if message["role"] != "system"), 0)
                messages.insert(first, self._sample("user"))
            kwargs = {**self._kwargs, "add_generation_prompt": prompted}
            self._parts[key] = self._template.rendered_part(self._traced, messages, kwargs)
            # What refuses may refuse because of what a text says.
            self._own.repeatable = self._own.repeatable and self._parts[key] is not None
        return self._parts[key]

    def _sample(self, role: str) -> Message:
        in_parts = any(isinstance(message.get("content"), list) for message in self.messages)
        return {"role": role, "content": [{"type": "text", "text": _SAMPLE}] if in_parts else _SAMPLE}

    # Places in the row.

    def blocks_of(self, index: int) -> list[Block]:
        """Returns where the words of message `index` stand."""
        return [block for block in self.rendered.blocks if block.message == index]

    def next_start(self, index: int, position: int) -> int:
        """Returns where the first words of a message behind `index` begin, from `position` on; else the text's end."""
        later = (
            block.start for block in self.rendered.blocks if block.start >= position and (block.message or 0) > index
        )
        return min(later, default=len(self.text))

    def anchor(self, index: int, limit: int) -> int:
        """Returns where the last word of somebody else before message `index` ends; 0 if there is none."""
        earlier = (block.end for block in self.rendered.blocks if block.end <= limit and block.message != index)
        return max(earlier, default=0)

    def begins_with(self, position: int, beginning: str) -> bool:
        """Returns whether a message begins with this at `position`; that is a question to the text like a
        template's.
        """
        answer = bool(beginning) and self.text.startswith(beginning, position)
        leaf = self.rendered.leaf_at(position)
        if beginning and leaf is not None:
            self._own.answers[Answer(leaf, "startswith", (beginning,), answer)] = None
        self._own.repeatable = self._own.repeatable and (leaf is not None or not beginning)
        return answer

    # The same places in a part.

    def gap_after(self, part: RenderedConversation | None, anchor: int) -> str | None:
        """Returns what a part has behind the word that ends at `anchor` in the row; None unless that is its last."""
        if part is None:
            return None
        ours = next((block.last for block in self.rendered.blocks if block.end == anchor), None)
        theirs = part.blocks[-1] if part.blocks else None
        if (theirs.last if theirs else None) != ours:
            return None
        return part.text[theirs.end if theirs else 0 :]

    def tail(self, part: RenderedConversation | None, block: Block | None, behind: int) -> str | None:
        """Returns what stands in a part behind the last word of a turn.

        Args:
            part: The rendering.
            block: The turn's words in the row; None if it has none.
            behind: Where they end, or where the turn begins.
        """
        if part is None:
            return None
        if block is not None:
            ends = [other.end for other in part.blocks if other.last == block.last]
            return part.text[ends[-1] :] if ends else None
        anchor = max((other.end for other in self.rendered.blocks if other.end <= behind), default=0)
        gap = self.gap_after(part, anchor)
        written = self.text[anchor:behind]
        return gap[len(written) :] if gap is not None and gap.startswith(written) else None


def doubt(index: int, reason: str) -> DataFormatError:
    """Returns the error of a row of which it is not certain what the assistant said in message `index`."""
    return DataFormatError(
        "Cannot tell exactly which letters of this conversation the assistant wrote.",
        column=f"messages[{index}]",
        found=f"the chat template has no generation marks, and {reason}",
        expected="assistant turns that can be found with certainty",
        mend="put {% generation %} … {% endgeneration %} around the assistant's text and stop token in the chat "
        "template, or train on all tokens with assistant_only_loss=False",
    )
