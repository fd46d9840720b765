"""A conversation together with its rendering: questions about where turns begin and end that can be answered surely.

Every answer is checked against the rendering, and what cannot be answered raises, because a wrong mask trains a model
on other people's words without a sign.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from easydata_sources.errors import DataFormatError

from easydata_tokenize.chat import ChatTemplate
from easydata_tokenize.conversation import Message
from easydata_tokenize.masks import common_prefix

__all__ = ["Scene", "strings_in"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """A conversation, what it is rendered with, and the text that comes out."""

    template: ChatTemplate
    messages: list[Message]
    tools: list[Any] | None
    template_kwargs: Mapping[str, Any]
    text: str

    def turn_start(self, index: int) -> int:
        """Return where the messages before turn `index`, rendered with the generation prompt, end in the text."""
        prefix = self._render_before(index, generation_prompt=True)
        if self.text.startswith(prefix):
            return len(prefix)
        # Some generation prompts open a thought that finished turns do not show; everything before must agree.
        history = self._render_before(index, generation_prompt=False)
        start = common_prefix(prefix, self.text)
        if not prefix.startswith(history) or start < len(history):
            raise self.uncertain(index, "it renders the messages before this turn differently once the turn is there")
        return start

    def stop_after(self, start: int, limit: int, *, index: int, said: Iterator[str]) -> int:
        """Return the end of the first stop token in `[start, limit)`, sure only if nobody wrote one in `said`."""
        stop = self.template.stop_rule.stop
        if not stop:
            raise self.uncertain(index, "it writes no stop token after the assistant's turn")
        if any(stop in words for words in said):
            raise self.uncertain(index, f"the stop token {stop!r} also occurs inside a message")
        found = self.text.find(stop, start, limit)
        if found < 0:
            raise self.uncertain(index, f"the stop token {stop!r} does not follow the turn")
        return found + len(stop)

    def uncertain(self, index: int | None, reason: str) -> DataFormatError:
        """Return the error to raise when a turn cannot be found for certain."""
        return DataFormatError(
            "Cannot tell exactly which letters of this conversation the assistant wrote.",
            column=None if index is None else f"messages[{index}]",
            found=f"the chat template has no generation marks, and {reason}",
            expected="assistant turns that can be found with certainty",
            mend="put {% generation %} … {% endgeneration %} around the assistant's text and stop token in the chat "
            "template, or train on all tokens with assistant_only_loss=False",
        )

    def _render_before(self, index: int, *, generation_prompt: bool) -> str:
        return self.template.render(
            self.messages[:index],
            tools=self.tools,
            template_kwargs=self.template_kwargs,
            add_generation_prompt=generation_prompt,
        )


def strings_in(value: Any) -> Iterator[str]:
    """Yield every string inside a JSON-like value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from strings_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings_in(item)
