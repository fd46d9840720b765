"""Sums to do in one's head, made on the spot, and how to tell whether one was done right.

The held-out sums are of numbers that never stand together in the training rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal

Split = Literal["train", "held-out"]

_LARGEST = 20
_HELD_OUT_EVERY = 5
_NUMBER = re.compile(r"-?\d+")


def arithmetic_rows(split: Split) -> Iterator[dict[str, Any]]:
    """Yields rows with a `prompt` of one message and the right `answer`, as text.

    Args:
        split: `train` has four fifths of the sums, `held-out` the others.
    """
    for first in range(1, _LARGEST + 1):
        for second in range(1, _LARGEST + 1):
            held_out = (first + 2 * second) % _HELD_OUT_EVERY == 0
            if held_out == (split == "held-out"):
                question = f"What is {first} + {second}? Answer with the number only."
                yield {"prompt": [{"role": "user", "content": question}], "answer": str(first + second)}


def right_answer(completions: Sequence[Any], answer: Sequence[str]) -> list[float]:
    """1 for each completion whose last number is the right one, else 0."""
    return [float(_last_number(_text(one)) == wanted) for one, wanted in zip(completions, answer, strict=True)]


def only_a_number(completions: Sequence[Any]) -> list[float]:
    """1 for each completion that is a number and nothing else, else 0."""
    return [float(_NUMBER.fullmatch(_text(one).strip()) is not None) for one in completions]


def _text(completion: Any) -> str:
    return completion if isinstance(completion, str) else completion[-1]["content"]


def _last_number(text: str) -> str | None:
    numbers = _NUMBER.findall(text)
    return numbers[-1] if numbers else None
