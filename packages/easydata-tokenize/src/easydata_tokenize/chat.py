"""Rendering conversations with the tokenizer's chat template.

A template is compiled once and rendered once per row, or once per sequence of roles where it only prints the texts.
What a template does with tools, tool calls and stop tokens is found out by rendering a small probe conversation, once
per template, and never guessed from its source.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from easydata_sources.errors import DataFormatError

from easydata_tokenize.conversation import Message, with_arguments_as
from easydata_tokenize.stencils import Stencils
from easydata_tokenize.template_flow import only_prints
from easydata_tokenize.tokenizer import ChatTokenizer

__all__ = ["ChatTemplate", "ChatTemplates", "MissingChatTemplateError"]

_MARKS = re.compile(r"\{%-?\s*generation\s*-?%\}")
_PROBE = "PROBE7Q"


class MissingChatTemplateError(DataFormatError):
    """A conversation is to be rendered, and the tokenizer has no chat template."""


class ChatTemplates:
    """The chat templates of one tokenizer: usually one, sometimes a second one for rows with tools."""

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, ChatTemplate] = {}

    @property
    def available(self) -> bool:
        """Whether the tokenizer has a chat template."""
        return bool(self._tokenizer.chat_template)

    def choose(self, tools: list[Any] | None = None) -> ChatTemplate:
        """Return the template for a row with these tools.

        Raises:
            MissingChatTemplateError: If the tokenizer has none.
        """
        if not self.available:
            raise MissingChatTemplateError(
                "Row is a conversation, but the tokenizer has no chat template.",
                found=f"{type(self._tokenizer).__name__} with chat_template = None (a base model's tokenizer?)",
                expected="a Jinja chat template",
                mend="use the tokenizer of the chat model, or set one: tokenizer.chat_template = "
                'open("template.jinja").read()',
            )
        source = self._tokenizer.get_chat_template(None, tools)
        if source not in self._known:
            self._known[source] = ChatTemplate(
                source, variables=self._tokenizer.special_tokens_map, specials=self._specials
            )
        return self._known[source]

    @cached_property
    def _specials(self) -> frozenset[str]:
        return special_token_texts(self._tokenizer)


@dataclass(frozen=True, slots=True)
class StopRule:
    """How a template ends an assistant's turn."""

    stop: str
    """What follows the assistant's text up to the end of the stop token; "" if the template writes none."""
    tail: str
    """Everything that follows the assistant's text at the end of a conversation: `stop` and often a newline."""


class ChatTemplate:
    """One chat template: renders conversations and knows how it ends an assistant's turn.

    Args:
        source: The Jinja source.
        variables: Special tokens, visible to the template by name.
        specials: Texts of the tokenizer's special tokens; the first one after an assistant's text is its stop token.
    """

    def __init__(self, source: str, *, variables: Mapping[str, Any], specials: frozenset[str]) -> None:
        self.source = source
        self._variables = {name: str(value) for name, value in variables.items() if isinstance(value, str)}
        self._specials = specials

    @cached_property
    def has_marks(self) -> bool:
        """Whether the template marks what the assistant generates: `{% generation %}`, with or without dashes."""
        return _MARKS.search(self.source) is not None

    def render(
        self,
        messages: list[Message],
        *,
        tools: list[Any] | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
        add_generation_prompt: bool = False,
    ) -> str:
        """Return the conversation as text.

        Args:
            messages: With `role` and `content`, and what else the template reads.
            tools: Descriptions of functions, for the template.
            template_kwargs: Further variables of the template.
            add_generation_prompt: Whether to end with the beginning of an assistant's turn.

        Raises:
            DataFormatError: If the template refuses the conversation; carries the template's own words.
        """

        def by_template(conversation: list[Message]) -> str:
            return self._render(conversation, tools, template_kwargs or {}, add_generation_prompt, False)[0]

        if tools is None and not template_kwargs:
            text = self._stencils.render(messages, add_generation_prompt, by_template)
            if text is not None:
                return text
        return by_template(messages)

    def render_marked(
        self,
        messages: list[Message],
        *,
        tools: list[Any] | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> tuple[str, list[tuple[int, int]]]:
        """Return the conversation as text and the character spans inside generation marks (needs `has_marks`).

        Args: see `render`.
        """
        text, spans = self._render(messages, tools, template_kwargs or {}, False, True)
        return text, [(start, end) for start, end in spans if end > start]

    @cached_property
    def stop_rule(self) -> StopRule:
        """How an assistant's turn ends; read off a rendered two-message conversation."""
        tail = self._render(_chat(_PROBE), None, {}, False, False)[0].rpartition(_PROBE)[2]
        ends = [tail.find(token) + len(token) for token in self._specials if token in tail]
        if ends:
            return StopRule(tail[: min(ends)], tail)
        # A template may end turns with a text that this tokenizer does not hold as one special token.
        return StopRule(tail.rstrip(), tail)

    @cached_property
    def generation_prompt(self) -> str:
        """The assistant header that `add_generation_prompt` appends; "" if the template ignores that variable."""
        turn = [{"role": "user", "content": _PROBE}]
        without = self._render(turn, None, {}, False, False)[0]
        with_prompt = self._render(turn, None, {}, True, False)[0]
        return with_prompt.removeprefix(without) if with_prompt.startswith(without) else ""

    @cached_property
    def marks_cover_stop(self) -> bool:
        """Whether the generation marks include the stop token; if not, a model trained on them never stops."""
        text, spans = self._render(_chat(_PROBE), None, {}, False, True)
        stop = text.rindex(_PROBE) + len(_PROBE) + len(self.stop_rule.stop)
        return any(start <= text.rindex(_PROBE) and stop <= end for start, end in spans)

    @cached_property
    def renders_tools(self) -> bool:
        """Whether the template prints the `tools` it is given."""
        schema = {"name": _PROBE, "description": "", "parameters": {"type": "object", "properties": {}}}
        text = self._try_render(_chat("x"), [{"type": "function", "function": schema}])
        return text is not None and _PROBE in text

    @cached_property
    def renders_tool_calls(self) -> bool:
        """Whether the template prints an assistant's `tool_calls`."""
        return any(_PROBE in (self._try_render(_tool_chat(kind)) or "") for kind in (dict, str))

    @cached_property
    def argument_kind(self) -> type[dict] | type[str]:
        """What the template wants `tool_calls[].function.arguments` to be: dicts, unless only JSON strings work."""
        as_dict = self._try_render(_tool_chat(dict))
        # A dict that reaches the text by concatenation shows as Python ('), not as JSON (").
        if (as_dict is None or f"{{'{_PROBE}'" in as_dict) and self._try_render(_tool_chat(str)) is not None:
            return str
        return dict

    @cached_property
    def _stencils(self) -> Stencils:
        from jinja2 import TemplateError
        from transformers.utils.chat_template_utils import _compile_jinja_template

        try:
            parsed = _compile_jinja_template(self.source).environment.parse(self.source)
        except TemplateError:  # whoever renders is told of it
            return Stencils(usable=False)
        return Stencils(usable=only_prints(parsed))

    def _try_render(self, messages: list[Message], tools: list[Any] | None = None) -> str | None:
        try:
            return self._render_raw(messages, tools, {}, False, False)[0]
        except _template_errors():
            return None

    def _render(
        self,
        messages: list[Message],
        tools: list[Any] | None,
        template_kwargs: Mapping[str, Any],
        add_generation_prompt: bool,
        marked: bool,
    ) -> tuple[str, list[tuple[int, int]]]:
        if any("tool_calls" in message for message in messages):
            messages = with_arguments_as(messages, self.argument_kind)
        try:
            return self._render_raw(messages, tools, template_kwargs, add_generation_prompt, marked)
        except _template_errors() as error:
            raise DataFormatError(
                "The chat template cannot render this conversation.",
                found=f"roles {', '.join(str(message.get('role')) for message in messages)}; "
                f"the template says: {error}",
                expected="a conversation of the form the template was written for",
                mend="reorder or merge the messages with dataset.map(…), or give the tokenizer another chat template",
            ) from error

    def _render_raw(
        self,
        messages: list[Message],
        tools: list[Any] | None,
        template_kwargs: Mapping[str, Any],
        add_generation_prompt: bool,
        marked: bool,
    ) -> tuple[str, list[tuple[int, int]]]:
        from transformers.utils.chat_template_utils import render_jinja_template

        texts, spans = render_jinja_template(
            conversations=[messages],
            tools=tools,
            chat_template=self.source,
            return_assistant_tokens_mask=marked,
            add_generation_prompt=add_generation_prompt,
            **{**self._variables, **template_kwargs},
        )
        return texts[0], [(int(start), int(end)) for start, end in spans[0]] if marked else []


def special_token_texts(tokenizer: ChatTokenizer) -> frozenset[str]:
    """Return the texts of the tokenizer's special tokens."""
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder().values()
    named = [token for token in (tokenizer.eos_token,) if token]
    return frozenset([token.content for token in added if token.special and token.content] + named)


def _chat(answer: str) -> list[Message]:
    return [{"role": "user", "content": "x"}, {"role": "assistant", "content": answer}]


def _tool_chat(kind: type[dict] | type[str]) -> list[Message]:
    function = {"name": "f", "arguments": {_PROBE: "y"}}
    call = {"id": "a1b2c3d4e", "type": "function", "function": function}
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    return with_arguments_as(turns, kind)


def _template_errors() -> tuple[type[Exception], ...]:
    # A template is a program run on data of unforeseen shape: these are what Jinja expressions raise.
    from jinja2 import TemplateError

    return TemplateError, TypeError, ValueError, LookupError, AttributeError
