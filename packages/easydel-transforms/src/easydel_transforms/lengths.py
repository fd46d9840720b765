"""How rows with a prompt and completions are cut to length.

Two ways, never mixed up. With `max_length` alone the whole row is cut at its right end, as TRL does, and a prompt that
leaves no room for an answer drops the row. With budgets of their own, the prompt loses its left side (but keeps its BOS
and system turn) and the completion its right side, and nothing is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["LengthBudgets"]

Ids = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class LengthBudgets:
    """Most tokens of a row and of its parts.

    Attributes:
        max_length: prompt and completion together. None = the sum of the two budgets, or no limit without them.
        max_prompt_length: of the prompt. None = no limit of its own.
        max_completion_length: of each completion. None = no limit of its own.
        keep_stop_token: whether a completion that is cut keeps its end (the stop token and what follows it) and loses
            the tokens before; otherwise the cut takes the end.

    Raises:
        ValueError: If a number is too small, or `max_length` is smaller than the sum of the budgets.
    """

    max_length: int | None = None
    max_prompt_length: int | None = None
    max_completion_length: int | None = None
    keep_stop_token: bool = False

    def __post_init__(self) -> None:
        for name, least in (("max_length", 2), ("max_prompt_length", 1), ("max_completion_length", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"`{name}` must be at least {least} or None; found {value}.\n  mend: {name}=512")
        if self.max_prompt_length is None or self.max_completion_length is None:
            return
        total = self.max_prompt_length + self.max_completion_length
        if self.max_length is None:
            object.__setattr__(self, "max_length", total)
        elif self.max_length < total:
            raise ValueError(
                f"`max_prompt_length` ({self.max_prompt_length}) and `max_completion_length` "
                f"({self.max_completion_length}) together exceed `max_length` ({self.max_length}).\n"
                f"  mend: leave max_length out, which makes it {total}, or lower a budget"
            )

    def prompt(self, ids: Ids, front: int) -> Ids:
        """Returns the prompt within its budget.

        Args:
            ids: its tokens.
            front: tokens at its left end that stay (BOS, system turn), as far as half the budget holds them.
        """
        limit = self.max_prompt_length
        if limit is None or len(ids) <= limit:
            return ids
        front = min(front, limit // 2)
        return np.concatenate([ids[:front], ids[len(ids) - (limit - front) :]])

    def completion(self, ids: Ids, prompt_length: int, stop: int | None) -> Ids:
        """Returns a completion within its budget and within what the prompt leaves of `max_length`.

        Args:
            ids: its tokens.
            prompt_length: tokens of the prompt before it; fewer than `max_length`.
            stop: id of the stop token.
        """
        limits = [self.max_completion_length, None if self.max_length is None else self.max_length - prompt_length]
        limit = min((limit for limit in limits if limit is not None), default=len(ids))
        if len(ids) <= limit:
            return ids
        stops = np.flatnonzero(ids == stop) if self.keep_stop_token and stop is not None else np.zeros(0, int)
        tail = ids[stops[-1] :] if len(stops) else ids[:0]
        return np.concatenate([ids[: limit - len(tail)], tail]) if len(tail) < limit else ids[:limit]

    def leaves_no_completion(self, prompt_length: int) -> bool:
        """Returns whether a prompt of this length fills the row."""
        return self.max_length is not None and prompt_length >= self.max_length
