"""Metrics as sums and counts, so that any split of a batch gives the same number.

A metric is a pair `(numerator, denominator)`. Pairs of micro-batches, devices and steps are added; the quotient
is taken once, when it is logged. A mean of means never happens.

A loss may be a sum of several such quotients (token losses over tokens plus pair losses over pairs). Its terms are
then kept under names of their own, `loss:…`, and added up where a number is wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

Ratio = tuple[jax.Array, jax.Array]
Ratios = dict[str, Ratio]
Terms = dict[str, jax.Array]
"""The summands of a loss by name: their sums, or the weights these are divided by."""

_LOSS = "loss"


def add_ratios(left: Ratios, right: Ratios) -> Ratios:
    """Add numerators and denominators of equal names."""
    return jax.tree.map(jnp.add, left, right)


def loss_ratios(sums: Terms, weights: Terms) -> Ratios:
    """The terms of a loss as metrics that `means` knows again: the only term is called `loss`."""
    names = {name: name if name == _LOSS else f"{_LOSS}:{name}" for name in sums}
    return {names[name]: (total, weights[name].astype(jnp.float32)) for name, total in sums.items()}


def means(ratios: Mapping[str, Any]) -> dict[str, float]:
    """The quotient of every pair, and of all the terms of the loss their sum, as `loss`.

    0 / 0 is 0, since a window without a trained token has no loss.
    """
    quotients = {name: _quotient(float(total), float(count)) for name, (total, count) in ratios.items()}
    terms = [name for name in quotients if name == _LOSS or name.startswith(f"{_LOSS}:")]
    rest = {name: value for name, value in quotients.items() if name not in terms}
    return {_LOSS: sum(quotients[name] for name in terms), **rest} if terms else rest


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
        """Every metric of the window; see `means`."""
        return means(self._sums)

    def clear(self) -> None:
        """Begin the next window."""
        self._sums.clear()

    def state(self) -> dict[str, list[float]]:
        """The sums, JSON-able."""
        return {name: list(pair) for name, pair in self._sums.items()}


def _quotient(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else numerator
