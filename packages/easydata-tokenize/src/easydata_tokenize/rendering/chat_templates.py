"""The chat templates of one tokenizer: usually one, sometimes a second one for rows with tools."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, final

from easydata_sources.errors import DataFormatError

from easydata_tokenize.rendering.template import ChatTemplate
from easydata_tokenize.tokenizer import ChatTokenizer

__all__ = ["ChatTemplates", "MissingChatTemplateError", "special_token_texts"]


class MissingChatTemplateError(DataFormatError):
    """A conversation is to be rendered, and the tokenizer has no chat template."""


@final
class ChatTemplates:
    """Chooses the chat template for a row.

    Args:
        tokenizer: Whose templates.
    """

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, ChatTemplate] = {}

    @property
    def available(self) -> bool:
        """Whether the tokenizer has a chat template."""
        return bool(self._tokenizer.chat_template)

    def choose(self, tools: Sequence[Any] | None = None) -> ChatTemplate:
        """Returns the template for a row with these tools.

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
        try:
            source = self._tokenizer.get_chat_template(None, tools)
        except ValueError as error:  # several templates, and none of them is called "default"
            raise MissingChatTemplateError(
                "The tokenizer has several chat templates and none that is the default.",
                found=f"templates named {', '.join(map(repr, self._tokenizer.chat_template))}",
                expected='one chat template, or one of several named "default"',
                mend='choose one: tokenizer.chat_template = tokenizer.chat_template["…"]',
            ) from error
        if source not in self._known:
            self._known[source] = ChatTemplate(
                source, variables=self._tokenizer.special_tokens_map, specials=self._specials
            )
        return self._known[source]

    @cached_property
    def _specials(self) -> frozenset[str]:
        return special_token_texts(self._tokenizer)


def special_token_texts(tokenizer: ChatTokenizer) -> frozenset[str]:
    """Returns the texts of the tokenizer's special tokens."""
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder().values()
    named = [token for token in (tokenizer.eos_token,) if token]
    return frozenset([token.content for token in added if token.special and token.content] + named)
