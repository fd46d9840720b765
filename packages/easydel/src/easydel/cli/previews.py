"""A model's answers to a few questions, to be read by a person before and after training."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from easydel.cli.errors import CommandError

if TYPE_CHECKING:
    from easydel_models import CausalLM


def questions_of(rows: Iterable[Mapping[str, Any]], count: int) -> list[str]:
    """The user's first words in each of the first `count` rows.

    Raises:
        CommandError: if a row has neither a `prompt` nor `messages`.
    """
    return [_question(row) for row in itertools.islice(rows, count)]


def greedy_answers(model: CausalLM, tokenizer: Any, questions: Sequence[str], *, max_new_tokens: int) -> list[str]:
    """The most probable answer to each question, token by token, without special tokens.

    Args:
        model: the model as it is now.
        tokenizer: its tokenizer; where it has a chat template, a question is put as a user's message.
        questions: plain text.
        max_new_tokens: an answer that is longer is cut there.
    """
    if not questions:
        return []
    prompts = [_prompt_ids(tokenizer, question) for question in questions]
    result = model.generate(prompts, max_new_tokens=max_new_tokens, eos_token_id=tokenizer.eos_token_id)
    return [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in result.token_ids]


def _question(row: Mapping[str, Any]) -> str:
    prompt = row.get("prompt", row.get("messages"))
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, Sequence):
        for message in prompt:
            if message["role"] == "user":
                return message["content"]
    raise CommandError(
        f"preview_rows reads questions from the held-out rows' `prompt` or `messages`; a row has only "
        f"{', '.join(sorted(row))}. Write the questions into `preview_questions` instead."
    )


def _prompt_ids(tokenizer: Any, question: str) -> list[int]:
    if tokenizer.chat_template is None:
        return tokenizer.encode(question)
    messages = [{"role": "user", "content": question}]
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
