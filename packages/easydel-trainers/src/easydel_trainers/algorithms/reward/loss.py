r"""The loss of reward models: a pure function of scores.

Axis letters: R pairs (rows).
"""

from __future__ import annotations

import jax
from jaxtyping import Array, Float


def reward_losses(
    chosen: Float[Array, " R"],
    rejected: Float[Array, " R"],
    margins: Float[Array, " R"],
    *,
    center_rewards_coefficient: float | None = None,
) -> Float[Array, " R"]:
    r"""Returns the loss of every pair.

    $$-\log\sigma(s_w - s_l - m) + \lambda (s_w + s_l)^2$$

    Args:
        chosen: score $s_w$ of the chosen answer.
        rejected: score $s_l$ of the rejected one.
        margins: m, by how much the chosen answer is better; 0 where that is not known.
        center_rewards_coefficient: $\lambda$; `None` = 0.

    References:
        Bradley and Terry 1952; Ouyang et al. 2022, https://arxiv.org/abs/2203.02155, eq. 1. Margins: Touvron et al.
        2023 (Llama 2), https://arxiv.org/abs/2307.09288, eq. 2. Centering: Eisenstein et al. 2023,
        https://arxiv.org/abs/2312.09244, eq. 2.
    """
    losses = -jax.nn.log_sigmoid(chosen - rejected - margins)
    if center_rewards_coefficient:
        losses = losses + center_rewards_coefficient * (chosen + rejected) ** 2
    return losses
