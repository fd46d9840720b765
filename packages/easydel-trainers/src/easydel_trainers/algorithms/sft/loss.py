"""The losses of supervised fine-tuning, on hidden states: pure functions of arrays.

Axis letters: N tokens, D width, V vocabulary.
"""

from __future__ import annotations

import jax.numpy as jnp
from easydel_models.lm_loss import LinearHead, fused_linear_ce
from jaxtyping import Array, Float, Int

from easydel_trainers.algorithms.sft.loss_names import SFTLossType
from easydel_trainers.step.metrics import Ratios
from easydel_trainers.step.targets import next_labels


def sft_loss(
    hidden: Float[Array, "batch seq dim"],
    head: Float[Array, "vocab dim"] | LinearHead,
    labels: Int[Array, "batch seq"],
    *,
    loss_type: SFTLossType = "nll",
    label_smoothing_factor: float = 0.0,
) -> tuple[Float[Array, ""], Ratios]:
    r"""Returns the sum of the token losses, and metrics.

    With $p_t$ the model's probability of label t given the tokens before it,

    $$\mathrm{nll} = -\sum_t \log p_t, \qquad \mathrm{dft} = -\sum_t \mathrm{sg}(p_t) \log p_t$$

    where sg stops the gradient. Smoothing by s replaces $-\log p_t$ with
    $-(1-s)\log p_t - \frac{s}{V}\sum_v \log p_{tv}$.

    Args:
        hidden: last hidden states, after the final norm.
        head: output embedding, or a `LinearHead`; logits are `hidden @ head.T`, never built as a whole.
        labels: token ids aligned with the input (label t is token t, or -100 where it is not trained). A row's
            first label must be -100: nothing comes before it.
        loss_type: `nll` or `dft`.
        label_smoothing_factor: s, in [0, 1).

    Returns:
        The sum over trained tokens (0 if there is none), and `entropy` (of the predicted distribution, in nats)
        and `mean_token_accuracy`, each as (sum, number of trained tokens).

    References:
        Wu et al., "On the Generalization of SFT: A Reinforcement Learning Perspective with Reward
        Rectification", 2025, https://arxiv.org/abs/2508.05629, eq. 9 (dft).
    """
    targets = next_labels(labels)
    loss_sum, stats = fused_linear_ce(
        hidden,
        head,
        targets,
        loss_type=loss_type,
        label_smoothing=label_smoothing_factor,
    )
    count = stats.count.astype(jnp.float32)
    return loss_sum, {
        "entropy": (stats.entropy_sum, count),
        "mean_token_accuracy": (stats.correct.astype(jnp.float32), count),
    }
