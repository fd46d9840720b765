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


class DivergedError(TrainerError, ArithmeticError):
    """The loss or the gradient is no longer a finite number."""
