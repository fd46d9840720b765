r"""The losses of contrastive preference optimisation: pure functions of log-probabilities.

Axis letters: R pairs (rows).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from easydel_trainers.algorithms.cpo.loss_names import CPOLossType

AVERAGING = frozenset({"ipo", "simpo", "alphapo"})
"""Losses of mean log-probabilities per token; the others are of sums."""
_LARGEST_EXPONENT = 80.0  # expm1 of it is finite in float32


class PairLoss(NamedTuple):
    """Per pair."""

    losses: Float[Array, " R"]
    chosen_rewards: Float[Array, " R"]
    rejected_rewards: Float[Array, " R"]


def cpo_losses(
    chosen: Float[Array, " R"],
    rejected: Float[Array, " R"],
    *,
    loss_type: CPOLossType,
    beta: float,
    label_smoothing: float = 0.0,
    simpo_gamma: float = 0.5,
    alpha: float = 0.0,
) -> PairLoss:
    r"""Returns the loss of every pair, without the likelihood term.

    Let $g = s(y_w) - s(y_l)$ where $s = \log\pi$, or with $\alpha \ne 0$ (AlphaPO) $s = (1 - \pi^{-\alpha})/\alpha$,
    which tends to $\log\pi$ as $\alpha \to 0$.

    - `sigmoid`: $-(1-\epsilon)\log\sigma(\beta g) - \epsilon\log\sigma(-\beta g)$. Xu et al. 2024 (CPO),
      https://arxiv.org/abs/2401.08417, eq. 3.
    - `hinge`: $\max(0, 1 - \beta g)$. Zhao et al. 2023 (SLiC), https://arxiv.org/abs/2305.10425, eq. 1.
    - `ipo`: $(g - \frac{1}{2\beta})^2$. Azar et al. 2023, https://arxiv.org/abs/2310.12036, eq. 17.
    - `simpo`, `alphapo`: `sigmoid` of $g - \gamma/\beta$. Meng et al. 2024 (SimPO), https://arxiv.org/abs/2405.14734,
      eq. 6; Gupta et al. 2025 (AlphaPO), https://arxiv.org/abs/2501.03884, eq. 6.

    Args:
        chosen: log-probability of the chosen completion: a sum over tokens, or for `AVERAGING` losses their mean.
        rejected: of the rejected completion.
        loss_type: one of the above.
        beta: > 0.
        label_smoothing: $\epsilon$ in [0, 0.5).
        simpo_gamma: $\gamma$, the margin aimed at.
        alpha: $\alpha$. Its exponent stops at 80, where the power would overflow.
    """
    chosen_scores, rejected_scores = (_transformed(logps, alpha) for logps in (chosen, rejected))
    difference = chosen_scores - rejected_scores
    if loss_type in ("simpo", "alphapo"):
        difference = difference - simpo_gamma / beta
    if loss_type == "hinge":
        losses = jax.nn.relu(1 - beta * difference)
    elif loss_type == "ipo":
        losses = (difference - 1 / (2 * beta)) ** 2
    else:
        right, wrong = jax.nn.log_sigmoid(beta * difference), jax.nn.log_sigmoid(-beta * difference)
        losses = -(1 - label_smoothing) * right - label_smoothing * wrong
    return PairLoss(losses, beta * chosen_scores, beta * rejected_scores)


def _transformed(logps: Array, alpha: float) -> Array:
    return -jnp.expm1(jnp.minimum(-alpha * logps, _LARGEST_EXPONENT)) / alpha if alpha else logps
