"""How long a template may run and how much it may print: templates come with models, from anybody."""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import Any, final

__all__ = ["BudgetExceededError", "RenderingBudget", "current_budget"]

_FREE_CHARACTERS = 8_000_000
_CHARACTERS_PER_INPUT = 64
_FREE_STEPS = 1_000_000
_STEPS_PER_INPUT = 8
_SECONDS = 10.0


class BudgetExceededError(Exception):
    """A template runs for too long, or prints too much."""


@final
class RenderingBudget:
    """What one rendering may still use.

    Args:
        characters: Characters of the conversation.
        seconds: Longest time.
    """

    def __init__(self, characters: int, *, seconds: float = _SECONDS) -> None:
        self._characters = _FREE_CHARACTERS + _CHARACTERS_PER_INPUT * characters
        self._steps = self._most_steps = _FREE_STEPS + _STEPS_PER_INPUT * characters
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds

    def step(self, steps: int = 1) -> None:
        """Counts items of loops and calls.

        Raises:
            BudgetExceededError: If there were too many, or time is over.
        """
        self._steps -= steps + 1
        if self._steps < 0:
            raise BudgetExceededError(f"it takes more than {self._most_steps:,} steps")
        if time.monotonic() > self._deadline:
            raise BudgetExceededError(f"it takes longer than {self._seconds:g} s")

    def characters(self, number: int) -> None:
        """Checks the length of a text that is about to be made.

        Raises:
            BudgetExceededError: If it is too long.
        """
        if number > self._characters:
            raise BudgetExceededError(
                f"it makes a text of {number:,} characters; at most {self._characters:,} are sane"
            )
        # Many long texts are as bad as one: a hundred thousand characters cost a step each thousand.
        if number > 1000:
            self.step(number // 1000)


current_budget: ContextVar[RenderingBudget | None] = ContextVar("current_budget", default=None)


def spend(steps: int) -> None:
    """Counts steps of the rendering that is going on."""
    budget = current_budget.get()
    if budget is not None:
        budget.step(steps)


def spend_characters(number: Any) -> None:
    """Checks the length of a text that the rendering that is going on is about to make."""
    budget = current_budget.get()
    if budget is not None and isinstance(number, int):
        budget.characters(number)
