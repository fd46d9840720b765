"""An example as the text to tokenize, with the character spans its masks need: everything before the tokenizer."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from easydata_sources.errors import DataFormatError

from easydata_tokenize.chat import ChatTemplate, ChatTemplates, special_token_texts
from easydata_tokenize.examples import ChatExample, TextExample
from easydata_tokenize.masks import common_prefix
from easydata_tokenize.skeleton import Span
from easydata_tokenize.tokenizer import ChatTokenizer
from easydata_tokenize.turns import AssistantTurns

__all__ = ["Draft", "Drafter"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """What one row says, as text."""

    text: str
    prompt: str | None = None
    """The part that is given and not learnt, ending in the generation prompt; not always a prefix of `text`."""
    spans: list[Span] | None = None
    """Characters the assistant generates; None unless they were asked for."""
    plain: bool = False
    """Plain text gets the tokenizer's own special tokens at its front; a rendered conversation has its template's."""
    notes: tuple[str, ...] = ()


class Drafter:
    """Writes examples as text: strings end in the EOS text, conversations are rendered by the chat template.

    Args:
        tokenizer: Whose template, special tokens and EOS to use.
        assistant_spans: Whether to find the assistant's characters; every example must then be a conversation.

    Raises:
        DataFormatError: If spans are asked for and the tokenizer has no chat template, or one whose generation marks
            leave out the stop token.
    """

    def __init__(self, tokenizer: ChatTokenizer, *, assistant_spans: bool = False) -> None:
        self._tokenizer = tokenizer
        self._templates = ChatTemplates(tokenizer)
        self._assistant_spans = assistant_spans
        self._turns: dict[str, AssistantTurns] = {}
        if assistant_spans:
            _require_marked_stop(self._templates.choose())

    @property
    def has_template(self) -> bool:
        """Whether conversations can be rendered."""
        return self._templates.available

    def draft(self, example: TextExample | ChatExample) -> Draft:
        """Return the example as text.

        Raises:
            DataFormatError: If the template refuses it, or the spans asked for cannot be found.
        """
        if isinstance(example, ChatExample):
            return self._chat(example)
        if self._assistant_spans:
            raise DataFormatError(
                "Row is plain text, and only the assistant's part is to be trained.",
                found="a row without turns",
                expected="a conversation (messages, conversations, alpaca, dolly, or prompt and completion messages)",
                mend="set assistant_only_loss=False, or leave text rows out of the mixture",
            )
        return self._text(example)

    def draft_prompt(self, example: TextExample | ChatExample) -> Draft:
        """Return the example as a text to be continued: with the header of the assistant's turn, without an end.

        A conversation whose last turn is the assistant's is continued within that turn.

        Raises:
            DataFormatError: If the template refuses it.
        """
        if isinstance(example, TextExample):
            return Draft(text=(example.prompt or "") + example.text, plain=True)
        template = self._templates.choose(example.tools)
        continued = bool(example.messages) and example.messages[-1]["role"] == "assistant"
        text = template.render(
            example.messages,
            tools=example.tools,
            template_kwargs=example.template_kwargs,
            add_generation_prompt=not continued,
        )
        return Draft(text=text.removesuffix(template.stop_rule.tail) if continued else text)

    def _text(self, example: TextExample) -> Draft:
        eos = self._tokenizer.eos_token
        if not eos:
            raise DataFormatError(
                "The tokenizer has no end-of-sequence token, so a model trained on text rows would never stop.",
                found="tokenizer.eos_token = None",
                expected="a token that ends a text",
                mend='tokenizer.eos_token = "</s>" (a token of its vocabulary)',
            )
        text = (example.prompt or "") + example.text
        return Draft(text=text if text.endswith(eos) else text + eos, prompt=example.prompt, plain=True)

    def _chat(self, example: ChatExample) -> Draft:
        if not example.messages:
            raise DataFormatError(
                "Conversation is empty.",
                found="a list of 0 messages",
                expected="at least one message",
                mend='dataset.filter(lambda row: len(row["messages"]) > 0)',
            )
        template = self._templates.choose(example.tools)
        text, spans = self._render(template, example)
        return Draft(
            text=text,
            prompt=None if example.prompt_turns is None else _render_prompt(template, example, text),
            spans=spans,
            notes=tuple(self._notes(template, example, text)),
        )

    def _render(self, template: ChatTemplate, example: ChatExample) -> tuple[str, list[Span] | None]:
        messages, tools, kwargs = example.messages, example.tools, example.template_kwargs
        if not self._assistant_spans:
            return template.render(messages, tools=tools, template_kwargs=kwargs), None
        if template.has_marks:
            text, spans = template.render_marked(messages, tools=tools, template_kwargs=kwargs)
        else:
            text = template.render(messages, tools=tools, template_kwargs=kwargs)
            turns = self._turns.setdefault(template.source, AssistantTurns(template))
            spans = turns.find(text, messages, tools=tools, template_kwargs=kwargs)
        if not spans:
            raise DataFormatError(
                "Only the assistant's part is to be trained, and the assistant says nothing in this row.",
                found=f"roles {', '.join(message['role'] for message in messages)}",
                expected="at least one message of the role assistant that the chat template renders",
                mend='dataset.filter(lambda row: any(m["role"] == "assistant" for m in row["messages"]))',
            )
        return text, spans

    def _notes(self, template: ChatTemplate, example: ChatExample, text: str) -> Iterable[str]:
        called = any(message.get("tool_calls") for message in example.messages)
        if example.tools and not template.renders_tools:
            yield "tools_not_rendered"
        if called and not template.renders_tool_calls:
            yield "tool_calls_not_rendered"
        contents = (message["content"] for message in example.messages)
        if any(isinstance(content, str) and self._control_tokens.search(content) for content in contents):
            yield "control_token_in_content"
        last = example.messages[-1]
        if last["role"] == "assistant" and not last.get("tool_calls"):
            rule = template.stop_rule
            if not rule.stop:
                yield "template_without_stop_token"
            elif text.rfind(rule.stop) < len(text) - len(rule.tail):
                yield "missing_stop_token"

    @cached_property
    def _control_tokens(self) -> re.Pattern[str]:
        texts = sorted(special_token_texts(self._tokenizer), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, texts)) or r"(?!)")  # no special tokens: matches nowhere


def _render_prompt(template: ChatTemplate, example: ChatExample, text: str) -> str:
    turns, tools, kwargs = example.messages[: example.prompt_turns], example.tools, example.template_kwargs
    prompt = template.render(turns, tools=tools, template_kwargs=kwargs, add_generation_prompt=True)
    if text.startswith(prompt):
        return prompt
    # A generation prompt may differ from the header of a finished turn (it may open a thought, say). But a template
    # that renders the prompt itself differently would have prompt tokens trained as if they were the answer.
    history = template.render(turns, tools=tools, template_kwargs=kwargs)
    if not text.startswith(history):
        raise DataFormatError(
            "The chat template renders the prompt differently once the completion follows it.",
            column="prompt",
            found=f"they differ from letter {common_prefix(history, text)} of {len(history)} on",
            expected="the rendered prompt at the start of the rendered conversation",
            mend="give the whole conversation as `messages`, with assistant_only_loss=True to train the answers only",
        )
    return prompt


def _require_marked_stop(template: ChatTemplate) -> None:
    if template.has_marks and not template.marks_cover_stop:
        stop = template.stop_rule.stop
        raise DataFormatError(
            "The generation marks of the chat template leave out the stop token, so the model would never stop.",
            found=f"{{% endgeneration %}} before {stop!r}",
            expected=f"{{% generation %}} … {stop} {{% endgeneration %}}",
            mend=f"move {{% endgeneration %}} behind {stop!r} in tokenizer.chat_template",
        )
