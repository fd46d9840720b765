"""Metrics as sums and counts, so that any split of a batch gives the same number.

A metric is a pair `(numerator, denominator)`. Pairs of micro-batches, devices and steps are added; the quotient
is taken once, when it is logged. A mean of means never happens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

Ratio = tuple[jax.Array, jax.Array]
Ratios = dict[str, Ratio]


def add_ratios(left: Ratios, right: Ratios) -> Ratios:
    """Add numerators and denominators of equal names."""
    return jax.tree.map(jnp.add, left, right)


class MetricWindow:
    """Sums of what was measured since the last log.

    A checkpoint may fall inside a window, so it has a `state()`.
    """

    def __init__(self, state: Mapping[str, Any] | None = None):
        self._sums: dict[str, list[float]] = {name: list(pair) for name, pair in (state or {}).items()}

    def add(self, ratios: Mapping[str, tuple[Any, Any]]) -> None:
        """Add one step's pairs; waits for the device if they are not computed yet."""
        for name, (numerator, denominator) in ratios.items():
            sums = self._sums.setdefault(name, [0.0, 0.0])
            sums[0] += float(numerator)
            sums[1] += float(denominator)

    def means(self) -> dict[str, float]:
        """Quotient of every pair; 0 / 0 is 0, since a window without a trained token has no loss."""
        return {
            name: numerator / denominator if denominator else numerator
            for name, (numerator, denominator) in self._sums.items()
        }

    def clear(self) -> None:
        """Begin the next window."""
        self._sums.clear()

    def state(self) -> dict[str, list[float]]:
        """The sums, JSON-able."""
        return {name: list(pair) for name, pair in self._sums.items()}
