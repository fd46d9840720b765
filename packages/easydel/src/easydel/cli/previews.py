"""The questions that a model answers before and after training, for a person to read."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from easydel.cli.errors import CommandError


def questions_of(rows: Iterable[Mapping[str, Any]], count: int) -> list[str]:
    """The user's first words in each of the first `count` rows.

    Raises:
        CommandError: if a row has neither a `prompt` nor `messages`.
    """
    return [_question(row) for row in itertools.islice(rows, count)]


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
