"""A chat template: what it makes of one conversation, and in which form it wants it."""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

from easydata_sources.errors import DataFormatError

from easydata_tokenize.conversation import Message
from easydata_tokenize.rendering.budget import BudgetExceededError, RenderingBudget, current_budget
from easydata_tokenize.rendering.forms import forms_of
from easydata_tokenize.rendering.marks import Marks
from easydata_tokenize.rendering.rendered import RenderedConversation
from easydata_tokenize.rendering.trace import Run, Trace, current_trace
from easydata_tokenize.rendering.traced_conversation import TracedConversation
from easydata_tokenize.rendering.traced_text import TracedText

__all__ = ["ChatTemplate", "Conversation"]

_MARKS = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a template is given.

    Attributes:
        messages: with `role`, `content` and what else the template reads.
        tools: descriptions of functions.
        template_kwargs: further variables of the template.
    """

    messages: Sequence[Message]
    tools: Sequence[Any] | None = None
    template_kwargs: Mapping[str, Any] | None = None


@final
class ChatTemplate:
    """One chat template with the special tokens of its tokenizer.

    Args:
        source: The Jinja source.
        variables: Special tokens, visible to the template by name.
        specials: Texts of the tokenizer's special tokens.
    """

    def __init__(self, source: str, *, variables: Mapping[str, Any], specials: frozenset[str]) -> None:
        self.source = source
        self._variables = {name: str(value) for name, value in variables.items() if isinstance(value, str)}
        self.marks = Marks(specials)
        self.eos = self._variables.get("eos_token")

    @cached_property
    def has_generation_marks(self) -> bool:
        """Whether the template marks what the assistant generates: `{% generation %}`, with or without dashes."""
        return _MARKS.search(self.source) is not None

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Any] | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
        add_generation_prompt: bool = False,
    ) -> str:
        """Returns the conversation as text, in the form in which most of it is printed.

        Args:
            messages: With `role` and `content`, and what else the template reads.
            tools: Descriptions of functions, for the template.
            template_kwargs: Further variables of the template.
            add_generation_prompt: Whether to end with the beginning of an assistant's turn.

        Raises:
            DataFormatError: If the template refuses the conversation; carries the template's own words.
        """
        kwargs = {**(template_kwargs or {}), "add_generation_prompt": add_generation_prompt}
        return self.rendered(Conversation(messages, tools, kwargs))[1].text

    def rendered(self, conversation: Conversation) -> tuple[TracedConversation, RenderedConversation]:
        """Returns the conversation in the form in which most of it is printed, and what comes out.

        Raises:
            DataFormatError: If the template refuses every form of it.
        """
        best: tuple[tuple[int, ...], TracedConversation, RenderedConversation] | None = None
        refused: Exception | None = None
        for messages in forms_of(conversation.messages):
            traced = TracedConversation(messages, conversation.tools)
            try:
                text = self._render(traced, conversation.template_kwargs or {})
            except _TemplateFailedError as error:
                refused = refused or error
                if isinstance(error.__cause__, BudgetExceededError):
                    break  # another form would only take as long
                continue
            cost = (text.misses, sum(text.unrendered.values()))
            if best is None or cost < best[0]:
                best = cost, traced, text
            if not best[0][0]:
                break
        if best is None:
            raise self._refusal(conversation, refused) from refused
        return best[1], best[2]

    def rendered_part(
        self, traced: TracedConversation, messages: Sequence[Message], template_kwargs: Mapping[str, Any]
    ) -> RenderedConversation | None:
        """Returns what some messages of a traced conversation are rendered to; None if the template refuses them.

        Args:
            traced: The conversation.
            messages: Those of its messages that are wanted, in their order.
            template_kwargs: Arguments of the row for the template, such as `enable_thinking`.
        """
        try:
            return self._render(traced, template_kwargs, messages)
        except _TemplateFailedError:
            return None

    def _render(
        self,
        traced: TracedConversation,
        template_kwargs: Mapping[str, Any],
        messages: Sequence[Message] | None = None,
    ) -> RenderedConversation:
        from easydata_tokenize.rendering.environment import compile_template

        trace, budget = Trace(), RenderingBudget(traced.characters)
        variables = {"add_generation_prompt": False, **self._variables, **template_kwargs}
        tracing, spending = current_trace.set(trace), current_budget.set(budget)
        try:
            # A template may alter neither the messages nor their order, but it may hold on to the list.
            shown = list(traced.messages if messages is None else messages)
            text = compile_template(self.source).render(
                **{**variables, "messages": shown, "tools": traced.tools, "documents": variables.get("documents")}
            )
        except Exception as error:  # a template is a program by anybody, run on data of unforeseen shape
            raise _TemplateFailedError(_reason(error, self.source)) from error
        finally:
            current_trace.reset(tracing)
            current_budget.reset(spending)
        runs = text.runs if type(text) is TracedText else (Run(len(text), (), 0, False),) if text else ()
        return RenderedConversation(str.__str__(text), runs, traced.leaves, trace)

    def _refusal(self, conversation: Conversation, error: Exception | None) -> DataFormatError:
        roles = ", ".join(str(message.get("role")) for message in conversation.messages)
        return DataFormatError(
            "The chat template cannot render this conversation.",
            found=f"roles {roles}; the template says: {error}",
            expected="a conversation of the form the template was written for",
            mend="reorder or merge the messages with dataset.map(…), or give the tokenizer another chat template",
        )


class _TemplateFailedError(Exception):
    """A template did not come to its end; says why and in which line."""


def _reason(error: Exception, source: str) -> str:
    text = str(error).strip().replace(f"{TracedText.__module__}.TracedText", "str") or type(error).__name__
    if isinstance(error, BudgetExceededError):
        text = f"({text}; the rendering was stopped)"
    line = getattr(error, "lineno", None)
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == "<template>":
            line = frame.lineno
    lines = source.split("\n")
    if line is None or not 0 < line <= len(lines):
        return text[:300]
    return f"{text[:300]} (line {line} of the template: {lines[line - 1].strip()[:80]!r})"
