"""Metrics as sums and counts, so that any split of a batch gives the same number.

A metric says by its type how two parts of a batch, two steps or two devices are joined:

- a pair `(numerator, denominator)` is a mean: pairs are added, the quotient is taken once, when it is logged. A mean of
  means never happens;
- `Minimum` and `Maximum` keep the extreme;
- a dict of pairs is a sum of means, each a quotient of its own, such as a loss over pairs and one over tokens.

>>> means({"loss": {"pairs": (6.0, 3.0), "tokens": (5.0, 10.0)}, "longest": Maximum(7.0, 1.0)})
{'loss': 2.5, 'longest': 7.0}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Ratio = tuple[Any, Any]


class Minimum(NamedTuple):
    """The least of what was measured; `present` is 0 where nothing was."""

    value: Any
    present: Any


class Maximum(NamedTuple):
    """The largest of what was measured; `present` is 0 where nothing was."""

    value: Any
    present: Any


Metric = Ratio | Minimum | Maximum | dict[str, Ratio]
Metrics = Mapping[str, Metric]
Ratios = dict[str, Metric]
Terms = dict[str, jax.Array]
"""The summands of a loss by name: their sums, or the weights these are divided by."""

_LOSS = "loss"
_EXTREMES = {"min": Minimum, "max": Maximum}
_SUM = "sum"


def add_ratios(left: Metrics, right: Metrics) -> Ratios:
    """Joins what two parts of a batch measured."""
    return {name: _joined(left[name], right[name]) for name in left}


def loss_ratios(sums: Terms, weights: Terms) -> Ratios:
    """Returns the loss as a metric: the only term where it is called `loss` itself, else the sum of the terms'
    means.
    """
    ratios = {name: (total, weights[name].astype(jnp.float32)) for name, total in sums.items()}
    return dict(ratios) if ratios.keys() == {_LOSS} else {_LOSS: ratios}


def means(metrics: Metrics) -> dict[str, float]:
    """Returns the value of every metric. 0 / 0 is 0: a window without a trained token has no loss."""
    return {name: _value(metric) for name, metric in metrics.items()}


class MetricWindow:
    """What was measured since the last log, joined.

    A checkpoint may fall inside a window, so it has a `state()`.
    """

    def __init__(self, state: Mapping[str, Any] | None = None):
        self._metrics: Ratios = metrics_from_json(state or {})

    def add(self, metrics: Metrics) -> None:
        """Adds one step's metrics; waits for the device if they are not computed yet."""
        for name, metric in metrics.items():
            new, old = _on_host(metric), self._metrics.get(name)
            self._metrics[name] = new if old is None else _on_host(_joined(old, new))

    def get(self, name: str) -> Metric | None:
        """Returns one metric so far; `None` = it was not measured."""
        return self._metrics.get(name)

    def means(self) -> dict[str, float]:
        """Returns the value of every metric of the window; see `means`."""
        return means(self._metrics)

    def clear(self) -> None:
        """Begins the next window."""
        self._metrics.clear()

    def state(self) -> dict[str, Any]:
        """Returns the metrics as plain JSON values."""
        return metrics_to_json(self._metrics)


def metrics_to_json(metrics: Metrics) -> dict[str, Any]:
    """Returns metrics of host numbers as plain JSON values."""
    return {name: _to_json(metric) for name, metric in metrics.items()}


def metrics_from_json(values: Mapping[str, Any]) -> Ratios:
    """Returns the reverse of `metrics_to_json`."""
    return {name: _from_json(value) for name, value in values.items()}


def _to_json(metric: Metric) -> Any:
    for kind, extreme in _EXTREMES.items():
        if isinstance(metric, extreme):
            return {kind: list(metric)}
    if isinstance(metric, dict):
        return {_SUM: {name: list(ratio) for name, ratio in metric.items()}}
    return list(metric)


def _from_json(value: Any) -> Metric:
    if isinstance(value, list | tuple):
        return value[0], value[1]
    ((kind, held),) = value.items()
    if kind == _SUM:
        return {name: (ratio[0], ratio[1]) for name, ratio in held.items()}
    return _EXTREMES[kind](*held)


def _joined(left: Any, right: Any) -> Any:
    if isinstance(left, dict):
        return {name: _joined(left[name], right[name]) for name in left}
    if isinstance(left, Minimum):
        return _extreme(jnp.minimum, left, right)
    if isinstance(left, Maximum):
        return _extreme(jnp.maximum, left, right)
    return left[0] + right[0], left[1] + right[1]


def _extreme(pick: Any, left: Any, right: Any) -> Any:
    """Of two values, where `present` of 0 says that there is none."""
    either = jnp.where(left[1] > 0, left[0], right[0])
    both = (left[1] > 0) & (right[1] > 0)
    return type(left)(jnp.where(both, pick(left[0], right[0]), either), jnp.maximum(left[1], right[1]))


def _on_host(metric: Any) -> Any:
    return jax.tree.map(float, metric)


def _value(metric: Metric) -> float:
    if isinstance(metric, dict):
        return sum((_value(ratio) for ratio in metric.values()), 0.0)
    numerator, denominator = float(metric[0]), float(metric[1])
    if isinstance(metric, Minimum | Maximum):
        return numerator if denominator else 0.0
    return numerator / denominator if denominator else numerator
