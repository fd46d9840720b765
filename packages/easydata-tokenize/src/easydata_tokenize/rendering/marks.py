"""Comparing what templates write: mark by mark, never letter by letter.

`<think>` and `</think>` share a letter, `<|im_start|>user` and `<|im_start|>assistant` a token; what two texts share is
counted in whole special tokens, tags and words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import final

__all__ = ["Marks"]

_TAGS = r"</?[^<>\s]{1,80}>|\[/?[^\[\]\s]{1,80}\]"


@final
class Marks:
    """The marks of one tokenizer.

    Args:
        specials: Texts of its special tokens.
    """

    def __init__(self, specials: Iterable[str]) -> None:
        longest_first = sorted((text for text in specials if text), key=len, reverse=True)
        known = "|".join(map(re.escape, longest_first)) or "(?!)"
        self.special = re.compile(known)
        self._whole = re.compile(f"{known}|{_TAGS}")
        self._part = re.compile(rf"{known}|{_TAGS}|\w+")

    def common(self, text: str, other: str) -> int:
        """Returns how many letters two texts share at their beginnings, in whole marks.

        Args:
            text: What is looked at.
            other: What it is compared with. If all of it is there, words need not end with it.
        """
        shorter = min(len(text), len(other))
        end = next((index for index in range(shorter) if text[index] != other[index]), shorter)
        pattern = self._whole if end == len(other) else self._part
        return min(self._snapped(pattern, text, end), self._snapped(pattern, other, end))

    def common_end(self, text: str, other: str) -> int:
        """Returns how many letters two texts share at their ends, in whole marks."""
        shorter = min(len(text), len(other))
        shared = next((n for n in range(shorter) if text[-1 - n] != other[-1 - n]), shorter)
        for whole in (text, other):
            edge = len(whole) - shared
            ends = [match.end() for match in self._part.finditer(whole) if match.start() < edge < match.end()]
            shared = len(whole) - max([edge, *ends])
        return shared

    def last_special(self, text: str) -> int:
        """Returns where the last special token ends; 0 if there is none."""
        return max((match.end() for match in self.special.finditer(text)), default=0)

    @staticmethod
    def _snapped(pattern: re.Pattern[str], text: str, end: int) -> int:
        for match in pattern.finditer(text):
            if match.start() >= end:
                break
            if match.end() > end:
                return match.start()
        return end
