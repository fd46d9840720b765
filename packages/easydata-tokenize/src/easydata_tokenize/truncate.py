"""Cutting rows that are too long."""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = ["TruncationMode", "kept_tokens"]

TruncationMode: TypeAlias = Literal["keep_start", "keep_end"]
"""Which end of a row that is too long is kept."""


def kept_tokens(length: int, max_length: int | None, mode: TruncationMode = "keep_start") -> slice:
    """Returns which tokens of a row stay; apply it to the ids and to everything aligned with them.

    The stop token of a row cut at its end is gone, and none is put back: a model trained on a stop token in the
    middle of a sentence learns to stop there. The cut is counted instead.

    >>> kept_tokens(10, 4), kept_tokens(10, 4, "keep_end"), kept_tokens(3, 4), kept_tokens(3, None)
    (slice(0, 4, None), slice(6, 10, None), slice(0, 3, None), slice(0, 3, None))

    Args:
        length: Tokens of the row.
        max_length: Most tokens a row may have, at least 1; None = no limit.
        mode: Which end stays.

    Raises:
        ValueError: If `max_length` is less than 1.
    """
    if max_length is not None and max_length < 1:
        raise ValueError(f"`max_length` must be at least 1 or None; found {max_length}.")
    if max_length is None or length <= max_length:
        return slice(0, length)
    return slice(0, max_length) if mode == "keep_start" else slice(length - max_length, length)
