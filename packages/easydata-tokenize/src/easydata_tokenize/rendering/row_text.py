"""An example as the text to tokenize, with the character spans its masks need: everything before the tokenizer."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, final

from easydata_sources.errors import DataFormatError

from easydata_tokenize.examples import ChatExample, TextExample
from easydata_tokenize.rendering.chat_templates import ChatTemplates, special_token_texts
from easydata_tokenize.rendering.rendered import RenderedConversation, Span
from easydata_tokenize.rendering.repeated import RepeatedRenderings, shape_of
from easydata_tokenize.rendering.row_parts import RowParts
from easydata_tokenize.rendering.template import ChatTemplate, Conversation
from easydata_tokenize.rendering.turns import TurnFinder
from easydata_tokenize.tokenizer import ChatTokenizer

__all__ = ["RowRenderer", "RowText"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RowText:
    """What one row says, as text."""

    text: str
    prompt: str | None = None
    """The part of the text that is given and not learnt."""
    spans: list[Span] | None = None
    """Characters the assistant generates; None unless they were asked for."""
    plain: bool = False
    """Plain text gets the tokenizer's own special tokens at its front; a rendered conversation has its template's."""
    notes: tuple[str, ...] = ()


class _Learnt(NamedTuple):
    template: ChatTemplate
    rendered: RenderedConversation
    finder: TurnFinder


class _Found(NamedTuple):
    edges: tuple[int, ...]
    notes: tuple[str, ...]


@final
class RowRenderer:
    """Writes examples as text: strings end in the EOS text, conversations are rendered by the chat template.

    Args:
        tokenizer: Whose template, special tokens and EOS to use.
        assistant_spans: Whether to find the assistant's characters; every example must then be a conversation.
        drop_unrendered: Kinds of what a row has (`reasoning`, `system`, …) that nobody misses where the template does
            not print them: they are not noted.

    Raises:
        DataFormatError: If spans are asked for and the tokenizer has no chat template.
    """

    def __init__(
        self, tokenizer: ChatTokenizer, *, assistant_spans: bool = False, drop_unrendered: Collection[str] = ()
    ) -> None:
        self._tokenizer = tokenizer
        self._templates = ChatTemplates(tokenizer)
        self._repeated = RepeatedRenderings()
        self._dropped = frozenset(drop_unrendered)
        self._assistant_spans = assistant_spans
        if assistant_spans:
            self._templates.choose()

    @property
    def has_template(self) -> bool:
        """Whether conversations can be rendered."""
        return self._templates.available

    def row(self, example: TextExample | ChatExample) -> RowText:
        """Returns the example as text.

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

    def prompt(self, example: TextExample | ChatExample) -> RowText:
        """Returns the example as a text to be continued: with the header of the assistant's turn, without an end.

        A conversation whose last turn is the assistant's is continued within that turn.

        Raises:
            DataFormatError: If the template refuses it.
        """
        if isinstance(example, TextExample):
            return RowText(text=(example.prompt or "") + example.text, plain=True)
        continued = bool(example.messages) and example.messages[-1]["role"] == "assistant"
        kwargs = {**example.template_kwargs, "add_generation_prompt": not continued}
        asked = Conversation(example.messages, example.tools, kwargs)

        def learn(conversation: _Learnt) -> _Found:
            end = (
                conversation.finder.text_end(len(example.messages) - 1)
                if continued
                else len(conversation.rendered.text)
            )
            return _Found((end,), tuple(self._not_rendered(conversation.rendered)))

        text, (end,), notes = self._rendered(("prompt", continued), asked, learn)
        return RowText(text=text[:end], notes=notes)

    def opening(self, example: ChatExample) -> str:
        """Returns what a rendered prompt begins with whatever is asked: its system messages, or the header before it.

        Raises:
            DataFormatError: If the template refuses it.
        """
        roles = [message["role"] for message in example.messages]
        first = next((index for index, role in enumerate(roles) if role not in ("system", "developer")), len(roles))
        last = len(roles) - 1
        kwargs = {**example.template_kwargs, "add_generation_prompt": roles[last] != "assistant"}

        def learn(conversation: _Learnt) -> _Found:
            end = (
                conversation.finder.start(first)
                if 0 < first <= last
                else conversation.finder.text_start(min(first, last))
            )
            return _Found((end,), ())

        asked = Conversation(example.messages, example.tools, kwargs)
        text, (end,), _ = self._rendered(("opening", roles[last]), asked, learn)
        return text[:end]

    def _text(self, example: TextExample) -> RowText:
        eos = self._tokenizer.eos_token
        if not eos:
            raise DataFormatError(
                "The tokenizer has no end-of-sequence token, so a model trained on text rows would never stop.",
                found="tokenizer.eos_token = None",
                expected="a token that ends a text",
                mend='tokenizer.eos_token = "</s>" (a token of its vocabulary)',
            )
        text = (example.prompt or "") + example.text
        return RowText(text=text if text.endswith(eos) else text + eos, prompt=example.prompt, plain=True)

    def _chat(self, example: ChatExample) -> RowText:
        if not example.messages:
            raise DataFormatError(
                "Conversation is empty.",
                found="a list of 0 messages",
                expected="at least one message",
                mend='dataset.filter(lambda row: len(row["messages"]) > 0)',
            )

        def learn(conversation: _Learnt) -> _Found:
            start = None if example.prompt_turns is None else conversation.finder.start(example.prompt_turns)
            spans = self._spans(conversation, example, start or 0) if self._assistant_spans else []
            edges = [*([] if start is None else [start]), *(edge for span in spans for edge in span)]
            last = example.messages[-1]
            plain_end = last["role"] == "assistant" and not last.get("tool_calls")
            stopless = conversation.finder.ends_untold() if plain_end else None
            if self._assistant_spans and stopless is None and conversation.finder.unstopped:
                stopless = "template_without_stop_token"
            turns = example.prompt_turns
            differs = turns is not None and not conversation.finder.continues_prompt(turns)
            doubts = [*(["prefix_mismatch"] if differs else []), *([stopless] if stopless else [])]
            return _Found(tuple(edges), (*self._not_rendered(conversation.rendered), *doubts))

        asked = Conversation(example.messages, example.tools, example.template_kwargs)
        text, edges, notes = self._rendered(("row", example.prompt_turns), asked, learn)
        found = list(edges)
        start = None if example.prompt_turns is None else found.pop(0)
        return RowText(
            text=text,
            prompt=None if start is None else text[:start],
            spans=list(zip(found[::2], found[1::2], strict=True)) if self._assistant_spans else None,
            notes=(*notes, *(["control_token_in_content"] if self._says_control_tokens(example) else [])),
        )

    def _rendered(
        self, purpose: Hashable, asked: Conversation, learn: Callable[[_Learnt], _Found]
    ) -> tuple[str, tuple[int, ...], tuple[str, ...]]:
        """Returns the text, and what is learnt from it; put together from an earlier one where that is proved the
        same.
        """
        template = self._templates.choose(asked.tools)
        shape = shape_of(asked.messages, asked.tools, asked.template_kwargs)
        key = (purpose, template.source, shape)
        if shape is not None:
            known = self._repeated.find(key, asked.messages, lambda: template.rendered(asked)[1].text)
            if known is not None:
                return known.text, known.edges, known.notes
        traced, rendered = template.rendered(asked)
        conversation = _Learnt(template, rendered, TurnFinder(RowParts(template, asked, traced, rendered)))
        edges, notes = learn(conversation)
        if shape is not None and not rendered.misses:
            self._repeated.remember(key, rendered, traces=conversation.finder.traces, edges=edges, notes=notes)
        return rendered.text, edges, notes

    def _spans(self, conversation: _Learnt, example: ChatExample, start: int) -> list[Span]:
        first = example.prompt_turns or 0
        if conversation.template.has_generation_marks:
            generated = conversation.rendered.generated
            spans = [(max(start, begin), end) for begin, end in generated if end > start]
            _require_marked_stop(conversation.finder, spans, first)
        else:
            spans = _merged((turn.start, turn.end) for turn in conversation.finder.turns(first))
        if not spans:
            raise DataFormatError(
                "Only the assistant's part is to be trained, and the assistant says nothing in this row.",
                found=f"roles {', '.join(message['role'] for message in example.messages)}",
                expected="at least one message of the role assistant that the chat template renders",
                mend='dataset.filter(lambda row: any(m["role"] == "assistant" for m in row["messages"]))',
            )
        return spans

    def _not_rendered(self, rendered: RenderedConversation) -> Iterable[str]:
        return (f"not_rendered/{kind}" for kind in rendered.unrendered if kind not in self._dropped)

    def _says_control_tokens(self, example: ChatExample) -> bool:
        texts = (text for message in example.messages for text in _strings_in(message))
        return any(map(self._control_tokens.search, texts))

    @cached_property
    def _control_tokens(self) -> re.Pattern[str]:
        texts = sorted(special_token_texts(self._tokenizer), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, texts)) or r"(?!)")  # no special tokens: matches nowhere


def _require_marked_stop(finder: TurnFinder, spans: Sequence[Span], first: int) -> None:
    try:
        turns = [turn for turn in finder.turns(first) if turn.stops]
    except DataFormatError:
        return  # the marks decide; where they do not help to understand the row, there is nothing to compare them with
    for turn in turns:
        marked = [end for start, end in spans if start < turn.end and turn.start < end]
        if marked and max(marked) < turn.end:
            raise DataFormatError(
                "The generation marks of the chat template leave out the stop token, so the model would never stop.",
                column=f"messages[{turn.message}]",
                found=f"{{% endgeneration %}} before {finder.text(max(marked), turn.end)!r}",
                expected="{% generation %} … stop token {% endgeneration %}",
                mend="move {% endgeneration %} behind the stop token in tokenizer.chat_template",
            )


def _merged(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in spans:
        if merged and merged[-1][1] == start:
            merged[-1] = (merged[-1][0], end)
        elif end > start:
            merged.append((start, end))
    return merged


def _strings_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings_in(item)
