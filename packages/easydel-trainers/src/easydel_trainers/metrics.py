"""Metrics as sums and counts, so that any split of a batch gives the same number.

A metric is a pair `(numerator, denominator)`. Pairs of micro-batches, devices and steps are added; the quotient
is taken once, when it is logged. A mean of means never happens.

Two kinds of names mean more. `loss:pairs` and `loss:tokens` are two summands of `loss`: each is a quotient of its own,
and they are added up where a number is wanted. Names whose last part begins or ends with `min` or `max`, as in
`min_reward` or `clip_ratio/low_min`, keep the extreme of what they are given instead of a sum; their denominator says
whether there is a value at all.

>>> means({"loss:pairs": (6.0, 3.0), "loss:tokens": (5.0, 10.0)})
{'loss': 2.5}
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
    """Join what two parts of a batch measured."""
    return {name: _joined(name, left[name], right[name]) for name in left}


def loss_ratios(sums: Terms, weights: Terms) -> Ratios:
    """The terms of a loss as metrics that `means` adds up; an only term may be called `loss` itself."""
    names = {name: name if name == _LOSS else f"{_LOSS}:{name}" for name in sums}
    return {names[name]: (total, weights[name].astype(jnp.float32)) for name, total in sums.items()}


def means(ratios: Mapping[str, Any]) -> dict[str, float]:
    """The quotient of every pair, summands added up. 0 / 0 is 0: a window without a trained token has no loss."""
    found: dict[str, float] = {}
    for name, (numerator, denominator) in ratios.items():
        whole = name.split(":")[0]
        found[whole] = found.get(whole, 0.0) + _quotient(float(numerator), float(denominator))
    return found


class MetricWindow:
    """Sums of what was measured since the last log.

    A checkpoint may fall inside a window, so it has a `state()`.
    """

    def __init__(self, state: Mapping[str, Any] | None = None):
        self._sums: dict[str, list[float]] = {name: list(pair) for name, pair in (state or {}).items()}

    def add(self, ratios: Mapping[str, tuple[Any, Any]]) -> None:
        """Add one step's pairs; waits for the device if they are not computed yet."""
        for name, pair in ratios.items():
            new = [float(number) for number in pair]
            old = self._sums.get(name)
            self._sums[name] = new if old is None else [float(number) for number in _joined(name, old, new)]

    def means(self) -> dict[str, float]:
        """Every metric of the window; see `means`."""
        return means(self._sums)

    def clear(self) -> None:
        """Begin the next window."""
        self._sums.clear()

    def state(self) -> dict[str, list[float]]:
        """The sums, JSON-able."""
        return {name: list(pair) for name, pair in self._sums.items()}


def _joined(name: str, left: Any, right: Any) -> Any:
    words = name.rsplit("/", 1)[-1].split("_")
    if "min" in (words[0], words[-1]):
        return _extreme(jnp.minimum, left, right)
    if "max" in (words[0], words[-1]):
        return _extreme(jnp.maximum, left, right)
    return left[0] + right[0], left[1] + right[1]


def _extreme(pick: Any, left: Any, right: Any) -> Any:
    """Of two values, where a denominator of 0 says that there is none."""
    either = jnp.where(left[1] > 0, left[0], right[0])
    both = (left[1] > 0) & (right[1] > 0)
    return jnp.where(both, pick(left[0], right[0]), either), jnp.maximum(left[1], right[1])


def _quotient(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else numerator
