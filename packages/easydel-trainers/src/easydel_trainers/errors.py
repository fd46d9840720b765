"""Errors of the trainers: each says what was found, what was expected and one way to mend it."""

from __future__ import annotations

from typing import Any


class TrainerError(Exception):
    """Base of the errors this package raises on purpose."""


class ConfigError(TrainerError, ValueError):
    """A config field holds a value that cannot work.

    Args:
        field: name of the field.
        value: the value found.
        expected: what would be accepted, in words.
    """

    def __init__(self, field: str, value: Any, expected: str):
        super().__init__(f"`{field}` is {value!r}; expected {expected}.")
        self.field, self.value, self.expected = field, value, expected

    def __reduce__(self) -> tuple[type[ConfigError], tuple[str, Any, str]]:
        return type(self), (self.field, self.value, self.expected)


class CheckpointError(TrainerError, RuntimeError):
    """A checkpoint is broken, or belongs to another run."""


class ProcessLostError(TrainerError, RuntimeError):
    """Another process of the run has ended or cannot be reached, so this one cannot go on either."""

    def __init__(self, found: str):
        super().__init__(
            f"Another process of this run is lost: {found}\nThis process ends too. Start all of them again: they go on "
            "from the newest whole checkpoint, on as many processes as there are then."
        )
        self.found = found

    def __reduce__(self) -> tuple[type[ProcessLostError], tuple[str]]:
        return type(self), (self.found,)


class DivergedError(TrainerError, ArithmeticError):
    """The loss or the gradient is no longer a finite number."""


class RewardError(TrainerError):
    """A reward function raised, took too long, or returned what is no reward.

    Attributes:
        row: number of the completion in its rollout; `None` = no single one is to blame.
    """

    def __init__(self, message: str, *, row: int | None = None):
        super().__init__(message)
        self.row = row
