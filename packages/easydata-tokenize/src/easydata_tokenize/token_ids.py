"""Whole numbers that a row brings along — token ids, labels, masks — as int32, refused where they do not fit.

A cast would wrap: 2³² + 5 becomes the token 5, and 2³¹ a negative id.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from easydata_sources.errors import DataFormatError
from numpy.typing import NDArray

__all__ = ["IGNORE_INDEX", "as_int32"]

IGNORE_INDEX = -100
"""Label of a token that is not trained."""

_LIMITS = np.iinfo(np.int32)


def as_int32(values: NDArray[Any], column: str, *, least: int = _LIMITS.min) -> NDArray[np.int32]:
    """Returns whole numbers as int32, each the number that was given.

    >>> as_int32(np.array([5, -100]), "labels").tolist()
    [5, -100]

    Args:
        values: Integers of any kind and shape; booleans count as 0 and 1.
        column: Where they are from, for the error.
        least: The smallest that makes sense: 0 for token ids.

    Raises:
        DataFormatError: If one is smaller than `least` or larger than int32 holds; names it and its position.
    """
    outside = (values < least) | (values > _LIMITS.max) if values.dtype.kind in "iu" else np.zeros(values.shape, bool)
    if outside.any():
        position = int(np.flatnonzero(outside)[0])
        raise DataFormatError(
            "A tokenized row holds a number that is no token.",
            column=column,
            found=f"{values.reshape(-1)[position]} at position {position}",
            expected=f"whole numbers from {least} to {_LIMITS.max}",
            mend="tokenize the row again; the numbers were damaged, or belong to something else",
        )
    return values.astype(np.int32)
