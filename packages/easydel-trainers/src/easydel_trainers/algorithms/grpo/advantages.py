"""From rewards to advantages: how much better an answer is than the others to its prompt.

A reward of NaN means that the function had nothing to say of a completion. A completion of which no function says
anything takes no part: its advantage is 0, and the mean and deviation of its group are those of the others.

Rewards that are equal have no deviation at all, however large they are: means and deviations are taken in float64, in
which sums of float32 numbers are exact, and what differs by less than float32 could tell apart counts as equal.

Axes: R completions (the G of one prompt next to each other), F reward functions.

Shao et al. 2024 (GRPO), https://arxiv.org/abs/2402.03300, section 4.1.2; Liu et al. 2026 (GDPO: normalise, then sum),
https://arxiv.org/abs/2601.05242.

>>> rewards = np.array([[1], [0], [0.5], [0.5]], np.float32)
>>> result = advantages_of(rewards, weights=np.ones(1, np.float32), group=4, scale="none")
>>> result.advantages.tolist()
[0.5, -0.5, 0.0, 0.0]
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

Scale = Literal["group", "batch", "none"]
Aggregation = Literal["sum_then_normalize", "normalize_then_sum"]

_FLOOR = 1e-4  # added to a deviation before dividing by it, as TRL does
_RESOLUTION = 1e-9  # of the larger number; two float32 numbers that differ do so by 6e-8 of it


@dataclass(frozen=True, slots=True)
class Advantages:
    """What `advantages_of` found.

    Attributes:
        advantages: one for each completion; always finite.
        rewards: weighted sum over functions; NaN where none says anything.
        without_spread: completions whose group (`batch`: the whole batch) has equal rewards, so that nothing is
            learned from them.
    """

    advantages: Float[np.ndarray, " R"]
    rewards: Float[np.ndarray, " R"]
    without_spread: Bool[np.ndarray, " R"]


def advantages_of(
    rewards: Float[np.ndarray, "R F"],
    *,
    weights: Float[np.ndarray, " F"],
    group: int,
    scale: Scale = "group",
    aggregation: Aggregation = "sum_then_normalize",
) -> Advantages:
    """Returns advantages of completions.

    Args:
        rewards: of every function; NaN = nothing to say.
        weights: of the functions.
        group: completions of each prompt, at least 2.
        scale: what the difference to the group's mean is divided by: the deviation of the group, of the batch, or
            nothing. Without a meaning for `normalize_then_sum`, which divides by both.
        aggregation: whether the functions' rewards are added up first, or each is normalised within its group, then
            added, and the sum normalised over the batch.
    """
    rewards = rewards.astype(np.float32)
    total = _weighted_sum(rewards, rewards, weights)
    if aggregation == "normalize_then_sum":
        grouped = rewards.reshape(-1, group, rewards.shape[1])
        normal = _differences(grouped, axis=1) / (_deviation(grouped, axis=1) + _FLOOR)
        summed = _weighted_sum(normal.reshape(rewards.shape), rewards, weights)
        spread = np.broadcast_to(_deviation(summed, axis=0), summed.shape)
        found = _differences(summed, axis=0) / (spread + _FLOOR)
    else:
        grouped = total.reshape(-1, group)
        by_group = np.broadcast_to(_deviation(grouped, axis=1), grouped.shape).reshape(-1)
        spread = np.broadcast_to(_deviation(total, axis=0), total.shape) if scale == "batch" else by_group
        found = _differences(grouped, axis=1).reshape(-1)
        if scale != "none":
            found = found / (spread + _FLOOR)
    # One lonely reward in a group has no deviation, and is equal to its mean: nothing is learned from it.
    advantages = np.nan_to_num(found, nan=0.0).astype(np.float32)
    return Advantages(advantages, total.astype(np.float32), np.nan_to_num(spread) == 0)


def mean_and_deviation(values: Float[np.ndarray, " R"]) -> tuple[float, float]:
    """Returns the mean and sample deviation of the numbers among `values`; 0 where there are too few of them."""
    return float(np.nan_to_num(_mean(values, axis=0)[0])), float(np.nan_to_num(_deviation(values, axis=0)[0]))


def _weighted_sum(values: np.ndarray, rewards: np.ndarray, weights: np.ndarray) -> np.ndarray:
    silent = np.isnan(rewards).all(axis=1)
    summed = np.nansum(values * weights.astype(np.float64)[None], axis=1, dtype=np.float64)
    return np.where(silent, np.nan, summed)


def _differences(values: np.ndarray, *, axis: int) -> np.ndarray:
    """Returns what every value is above the mean; exactly 0 where all are equal."""
    return np.where(_equal(values, axis=axis), 0.0 * values, values - _mean(values, axis=axis))


def _equal(values: np.ndarray, *, axis: int) -> np.ndarray:
    """Returns whether all numbers among the values are one, as far as float32 can tell."""
    least, most = (np.where(np.isnan(values), none, values) for none in (np.inf, -np.inf))
    least, most = least.min(axis=axis, keepdims=True), most.max(axis=axis, keepdims=True)
    return most - least <= _RESOLUTION * np.maximum(np.abs(least), np.abs(most))


def _mean(values: np.ndarray, *, axis: int) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of groups without a number: their mean is NaN, as it should
        return np.asarray(np.nanmean(values, axis=axis, keepdims=True, dtype=np.float64))


def _deviation(values: np.ndarray, *, axis: int) -> np.ndarray:
    """Returns the sample deviation (n - 1) of what is not NaN; NaN for fewer than two numbers."""
    count = (~np.isnan(values)).sum(axis=axis, keepdims=True).astype(np.float64)
    variance = _mean(_differences(values, axis=axis) ** 2, axis=axis)
    return np.asarray(np.sqrt(variance * np.where(count > 1, count / np.maximum(count - 1, 1), np.nan)))
