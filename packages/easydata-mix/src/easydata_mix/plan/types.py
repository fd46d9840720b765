"""The types that a plan speaks of."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Order: TypeAlias = "NDArray[np.intp]"
"""Source index of every row of a block, shape [rows]."""

Shares: TypeAlias = tuple[Fraction, ...]
"""One share per source, in the sources' order; they sum to exactly 1."""

Live: TypeAlias = tuple[int, ...]
"""Indices of the sources that still have rows."""

Stop: TypeAlias = Literal["restart", "first_exhausted", "all_exhausted"]
"""What happens when a source runs out; see `stepper.py`."""

WeightBy: TypeAlias = Literal["row", "token"]
"""What weights are shares of."""

Unit: TypeAlias = Literal["step", "sample", "token"]
"""What a schedule counts: optimizer steps, rows or tokens."""

Interpolation: TypeAlias = Literal["step", "linear", "cosine"]
"""How shares change between two points of a schedule."""
