r"""The losses of Kahneman-Tversky optimisation: pure functions of log-probabilities.

Axis letters: R rows (completions).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from easydel_trainers.algorithms.kto.loss_names import KTOLossType


def kto_losses(
    log_ratios: Float[Array, " R"],
    labels: Float[Array, " R"],
    baseline: Float[Array, "*R"],
    *,
    loss_type: KTOLossType = "kto",
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Float[Array, " R"]:
    r"""Returns the loss of every completion.

    With $a = \log\pi(y|x) - \log\pi_\mathrm{ref}(y|x)$ and the baseline $z_0$ (see `kl_baseline`):

    - `kto`: desirable $w_d\,(1 - \sigma(\beta(a - z_0)))$, undesirable $w_u\,(1 - \sigma(\beta(z_0 - a)))$. Ethayarajh
      et al. 2024, https://arxiv.org/abs/2402.01306, eq. 8 (eq. 7 in its first version).
    - `apo_zero_unpaired`: desirable $w_d\,(1 - \sigma(\beta a))$, undesirable $w_u\,\sigma(\beta a)$. The unpaired form
      of D'Oosterlinck et al. 2024, https://arxiv.org/abs/2408.06266, eq. 7.

    Args:
        log_ratios: a, in nats.
        labels: 1 = desirable, 0 = undesirable.
        baseline: $z_0 \ge 0$; passes no gradient. Not used by `apo_zero_unpaired`.
        loss_type: one of the above.
        beta: > 0.
        desirable_weight: $w_d$.
        undesirable_weight: $w_u$.
    """
    centred = log_ratios - jax.lax.stop_gradient(baseline) if loss_type == "kto" else log_ratios
    desirable = desirable_weight * jax.nn.sigmoid(-beta * centred)
    undesirable = undesirable_weight * jax.nn.sigmoid(beta * centred)
    return jnp.where(labels > 0, desirable, undesirable)


def kl_baseline(log_ratios: Float[Array, "*R"], counted: Float[Array, "*R"]) -> Float[Array, ""]:
    r"""$z_0 = \max(0, \frac1n\sum_i [\log\pi(y'_i|x_i) - \log\pi_\mathrm{ref}(y'_i|x_i)])$ over mismatched pairs.

    A biased estimate of the KL divergence between policy and reference (paper, section 4.1); passes no gradient.

    Args:
        log_ratios: of each prompt $x_i$ with a completion $y'_i$ that belongs to another one.
        counted: 1 where there is such a completion.
    """
    mean = (log_ratios * counted).sum() / jnp.maximum(counted.sum(), 1)
    return jax.lax.stop_gradient(jnp.maximum(mean, 0.0))
