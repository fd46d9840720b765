"""Row transforms that render conversations with a tokenizer's chat template; training does this by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from easydata_sources.errors import DataFormatError
from easydata_sources.transforms.transform import Transform
from easydata_sources.types import Row

from easydata_tokenize.conversation import read_messages, read_tools
from easydata_tokenize.rendering.chat_templates import ChatTemplates
from easydata_tokenize.tokenizer import ChatTokenizer

__all__ = ["ChatTemplateTransform", "MaybeApplyChatTemplate"]

_OTHER_NAMES = ("conversations", "conversation")

_CONVERSATIONAL = ("prompt", "chosen", "rejected", "completion", "messages", "conversations")


@final
class ChatTemplateTransform(Transform):
    """Renders a row's conversation to text; a row without one stays as it is.

    Args:
        tokenizer: A tokenizer with a chat template.
        messages_field: Field of the conversation; `conversations` and `conversation` are looked for too.
        output_field: Field of the text.
        tools: Tools for every row; None = those of its `tools` field.
        convert_from_value_format: Accept `{from, value}` messages, under role names that templates know.
        drop_messages: Remove the conversation from the row.
        **template_kwargs: More variables of the template; `add_generation_prompt` among them.

    Raises:
        DataFormatError: While transforming, if there is no template, or it refuses a conversation.
    """

    def __init__(  # noqa: PLR0917 - the order that EasyDeL's users know
        self,
        tokenizer: ChatTokenizer,
        messages_field: str = "messages",
        output_field: str = "text",
        tools: list[Any] | None = None,
        convert_from_value_format: bool = True,
        drop_messages: bool = True,
        **template_kwargs: Any,
    ) -> None:
        self._templates = ChatTemplates(tokenizer)
        self._names = (messages_field, *_OTHER_NAMES)
        self._output = output_field
        self._tools = tools
        self._converts = convert_from_value_format
        self._drop = drop_messages
        self._kwargs = template_kwargs

    @property
    def keeps_every_row(self) -> bool:
        return True

    def __call__(self, row: Row) -> Row:
        name = next((name for name in self._names if row.get(name) is not None), None)
        if name is None:
            return row
        if not self._converts:
            _refuse_from_value(row[name], name)
        tools = self._tools if self._tools is not None else read_tools(row.get("tools"))
        text = render(self._templates, row[name], column=name, tools=tools, template_kwargs=self._kwargs)
        kept = {field: value for field, value in row.items() if not (self._drop and field == name)}
        return {**kept, self._output: text}


@final
class MaybeApplyChatTemplate(Transform):
    """Renders the conversations among a row's usual fields to text, and leaves rows of plain text as they are.

    `messages` and `conversations` become `text`; a conversational `prompt` is rendered up to where the answer begins,
    and `chosen`, `rejected` and `completion` become what the template writes after it.

    Args:
        tokenizer: A tokenizer with a chat template.
        **chat_template_kwargs: More variables of the template.
    """

    def __init__(self, tokenizer: ChatTokenizer, **chat_template_kwargs: Any) -> None:
        self._templates = ChatTemplates(tokenizer)
        self._kwargs = chat_template_kwargs

    @property
    def keeps_every_row(self) -> bool:
        return True

    def __call__(self, row: Row) -> Row:
        conversational = [name for name in _CONVERSATIONAL if _is_conversation(row.get(name))]
        if not conversational:
            return row
        tools = read_tools(row.get("tools"))
        rendered = dict(row)
        for name in conversational:
            if name in ("messages", "conversations"):
                del rendered[name]
                rendered["text"] = self._render(row[name], name, tools)
        prompt = row.get("prompt")
        before = list(prompt) if isinstance(prompt, list) and "prompt" in conversational else []
        opening = self._render(before, "prompt", tools, add_generation_prompt=True) if before else ""
        if before:
            rendered["prompt"] = opening
        for name in ("chosen", "rejected", "completion"):
            if name in conversational:
                rendered[name] = self._answer(before, row[name], name, tools, opening)
        return rendered

    def _render(self, messages: Any, name: str, tools: list[Any] | None, *, add_generation_prompt: bool = False) -> str:
        options = {"add_generation_prompt": True} if add_generation_prompt else {}
        return render(self._templates, messages, column=name, tools=tools, template_kwargs=self._kwargs | options)

    def _answer(self, before: list[Any], answer: Any, name: str, tools: list[Any] | None, opening: str) -> str:
        whole = self._render([*before, *answer], name, tools)
        if not whole.startswith(opening):
            raise DataFormatError(
                "The template does not continue a prompt with its answer.",
                column=name,
                found=f"{whole[:80]!r}",
                expected=f"a text that begins with the prompt {opening[:80]!r}",
                mend="leave the conversations as they are: the trainers' transforms find the answer among the tokens",
            )
        return whole[len(opening) :]


def render(
    templates: ChatTemplates,
    messages: Any,
    *,
    column: str,
    tools: list[Any] | None,
    template_kwargs: Mapping[str, Any],
) -> str:
    """Returns a conversation as the template writes it."""
    template = templates.choose(tools)
    kwargs = dict(template_kwargs)
    prompting = bool(kwargs.pop("add_generation_prompt", False))
    read = read_messages(messages, column=column)
    return template.render(read, tools=tools, template_kwargs=kwargs, add_generation_prompt=prompting)


def _is_conversation(value: Any) -> bool:
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        return False
    return isinstance(value[0], Mapping) and ("role" in value[0] or "from" in value[0])


def _refuse_from_value(messages: Any, column: str) -> None:
    if isinstance(messages, Sequence) and any(isinstance(m, Mapping) and "from" in m for m in messages):
        raise DataFormatError(
            "A conversation has `from` and `value` where `role` and `content` are wanted.",
            column=column,
            found="convert_from_value_format=False",
            expected="messages of `role` and `content`",
            mend="convert_from_value_format=True, or ConvertToChatML before it",
        )
