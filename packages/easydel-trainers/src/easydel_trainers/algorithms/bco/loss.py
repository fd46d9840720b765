r"""The loss of binary classifier optimisation: pure functions of rewards.

Axis letters: R rows (completions).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class RunningMean(NamedTuple):
    """Mean of all rewards so far."""

    mean: Float[Array, ""]
    rewards: Float[Array, ""]
    """How many rewards it is of."""


def bco_losses(
    rewards: Float[Array, " R"],
    labels: Float[Array, " R"],
    shift: Float[Array, ""],
    density_weights: Float[Array, " R"],
) -> Float[Array, " R"]:
    r"""Returns the loss of every completion.

    With the reward $r = \beta(\log\pi(y|x) - \log\pi_\mathrm{ref}(y|x))$ and the reward shift $\delta$, desirable:
    $-\log\sigma(r - \delta)$; undesirable: $-w(x)\log\sigma(-(r - \delta))$.

    Args:
        rewards: r.
        labels: 1 = desirable, 0 = undesirable.
        shift: $\delta$; passes no gradient.
        density_weights: w, how much likelier the prompt is among desirable rows; 1 without underlying distribution
            matching. Only looked at where undesirable.

    References:
        Jung et al., "Binary Classifier Optimization for Large Language Model Alignment", 2024,
        https://arxiv.org/abs/2404.04656, eq. 7 (reward shift), eq. 9 and section 3.3 (distribution matching).
    """
    centred = rewards - jax.lax.stop_gradient(shift)
    desirable = -jax.nn.log_sigmoid(centred)
    undesirable = -density_weights * jax.nn.log_sigmoid(-centred)
    return jnp.where(labels > 0, desirable, undesirable)


def moved(running: RunningMean, rewards: Float[Array, " R"], counted: Float[Array, " R"]) -> RunningMean:
    """Returns the running mean with some more rewards; passes no gradient.

    Args:
        running: before them.
        rewards: the new ones.
        counted: 1 where there is one.
    """
    rewards = jax.lax.stop_gradient(rewards)
    count = running.rewards + counted.sum()
    # The difference is averaged, not the rewards: sums over a long run would lose their last digits.
    change = ((rewards - running.mean) * counted).sum() / jnp.maximum(count, 1)
    return RunningMean(running.mean + change, count)
