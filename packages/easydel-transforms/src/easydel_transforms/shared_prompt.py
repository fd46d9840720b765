"""The prompt that a chosen and a rejected answer share, where a row does not name it.

The longest common beginning is the prompt: over messages in conversations, over letters in strings. A space before the
first difference belongs to the answers. This is TRL's rule, with its edges mended: equal answers, and answers of which
one begins with the other, keep something to tell apart; a difference in the first letter leaves no prompt.

In strings it is a guess: "It is blue" and "It is black" share "It is bl". Name the prompt where you know it.

>>> split_strings("Sky? Blue.", "Sky? Red.")
('Sky?', ' Blue.', ' Red.')
>>> split_strings("the same", "the same")
('the', ' same', ' same')
"""

from __future__ import annotations

from collections.abc import Sequence

from easydata_tokenize import Message

__all__ = ["split_messages", "split_strings"]


def split_strings(chosen: str, rejected: str) -> tuple[str, str, str]:
    """Returns prompt, chosen and rejected completion."""
    at = _first_difference(chosen, rejected)
    if at == min(len(chosen), len(rejected)):
        # One is the beginning of the other: its last word is an answer, not a question.
        at = max(chosen.rfind(" ", 0, at), 0)
    elif at and chosen[at - 1] == " ":
        at -= 1
    return chosen[:at], chosen[at:], rejected[at:]


def split_messages(
    chosen: list[Message], rejected: list[Message]
) -> tuple[list[Message], list[Message], list[Message]]:
    """Returns the prompt's messages, and those of the chosen and the rejected completion; each has at least one."""
    at = min(_first_difference(chosen, rejected), len(chosen) - 1, len(rejected) - 1)
    at = max(at, 0)
    return chosen[:at], chosen[at:], rejected[at:]


def _first_difference(left: Sequence[object], right: Sequence[object]) -> int:
    shorter = min(len(left), len(right))
    return next((index for index in range(shorter) if left[index] != right[index]), shorter)
