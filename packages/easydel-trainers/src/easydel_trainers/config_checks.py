"""Checks of single fields of a config: what is refused, and what is expected in its place."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from easydel_transforms.reasons import REASONS, is_reason

from easydel_trainers.errors import ConfigError


def require_choice(name: str, value: object, choices: Collection[object]) -> None:
    """Refuses what is not one of `choices`."""
    if value not in choices:
        raise ConfigError(name, value, "one of " + ", ".join(repr(choice) for choice in choices))


def require_positive(name: str, value: float | None) -> None:
    """Refuses what is not a positive number; `None` passes."""
    if value is not None and not value > 0:
        raise ConfigError(name, value, "a number larger than 0")


def require_whole(name: str, value: int | None, *, least: int) -> None:
    """Refuses what is not a whole number of at least `least`; `None` passes."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
        raise ConfigError(name, value, f"a whole number of at least {least}")


def checked_texts(name: str, values: Sequence[str]) -> tuple[str, ...]:
    """Returns a list of strings as a tuple; anything else is refused."""
    if isinstance(values, str) or not all(isinstance(value, str) for value in values):
        raise ConfigError(name, values, "a list of strings")
    return tuple(values)


def require_pattern(name: str, pattern: str) -> None:
    """Refuses what is no regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ConfigError(name, pattern, f"regular expressions ({error})") from None


def checked_window(steps: Sequence[int]) -> tuple[int, int]:
    """First and last step to profile."""
    first, last = steps if len(steps) == 2 else (0, 0)
    if not 1 <= first <= last:
        raise ConfigError("profile_steps", steps, "the first and last step to record, for example (10, 12)")
    return first, last


def checked_buckets(buckets: Sequence[int]) -> tuple[int, ...]:
    """Returns lengths of bins as a tuple, ascending."""
    buckets = tuple(buckets)
    if not buckets or any(not isinstance(b, int) or b < 1 for b in buckets) or list(buckets) != sorted(set(buckets)):
        raise ConfigError("length_buckets", buckets, "ascending whole numbers, for example [128, 256, 512]")
    return buckets


def checked_thresholds(field: str, shares: Mapping[str, float]) -> dict[str, float]:
    """Returns thresholds of a data report.

    Args:
        field: of the config that has them.
        shares: reason -> largest share of the rows.

    Raises:
        ConfigError: if nothing is ever counted under a name, or a share is none.
    """
    for reason, share in shares.items():
        if not is_reason(reason):
            raise ConfigError(field, reason, f"names of the data report: not_rendered/KIND, {', '.join(REASONS)}")
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise ConfigError(field, {reason: share}, "shares from 0.0 to 1.0")
    return dict(shares)
