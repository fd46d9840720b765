r"""The losses of direct preference optimisation: pure functions of log-probabilities.

Axis letters: R pairs (rows).

Notation: with $c = \log\pi(y_w|x)$, $r = \log\pi(y_l|x)$ and those of the reference model, the log-ratios are
$a = c - c_\mathrm{ref}$ and $d = r - r_\mathrm{ref}$; the scores $u_c, u_r$ are functions of them (equal to them for
the reverse KL divergence), and $D = u_c - u_r$. $L_c, L_r$ are the completions' lengths in tokens, $\sigma$ the
logistic function, $\epsilon$ the label smoothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from easydel_trainers.algorithms.dpo.loss_names import DPOLossType, FDivergence

SORTING = frozenset({"aot", "aot_unpaired"})
"""Losses that compare the pairs of a step with each other."""
_LARGEST_EXPONENT = 80.0  # exp of it is finite in float32 and bfloat16


class Pairs(NamedTuple):
    """What the losses are functions of."""

    chosen: Float[Array, " R"]
    """c."""
    rejected: Float[Array, " R"]
    """r."""
    reference_chosen: Float[Array, " R"]
    reference_rejected: Float[Array, " R"]
    chosen_lengths: Float[Array, " R"]
    """Tokens."""
    rejected_lengths: Float[Array, " R"]
    real: Float[Array, " R"]
    """1 where there is a pair, 0 in empty rows."""


class DPOOptions(NamedTuple):
    """Numbers of the losses; `DPOConfig` explains them."""

    beta: float = 0.1
    label_smoothing: float = 0.0
    f_divergence_type: FDivergence = "reverse_kl"
    f_alpha_divergence_coef: float = 0.5
    discopop_tau: float = 0.05


def dpo_losses(pairs: Pairs, loss_type: DPOLossType, options: DPOOptions) -> Float[Array, " R"]:
    r"""Returns the loss of every pair; 0 in empty rows.

    - `sigmoid`: $-(1-\epsilon)\log\sigma(\beta D) - \epsilon\log\sigma(-\beta D)$. Rafailov et al. 2023,
      https://arxiv.org/abs/2305.18290, eq. 7; with $\epsilon > 0$ conservative DPO, Mitchell 2023,
      https://ericmitchell.ai/cdpo.pdf, eq. 3.
    - `hinge`: $\max(0, 1 - \beta D)$. Zhao et al. 2023 (SLiC), https://arxiv.org/abs/2305.10425, eq. 1; the reference's
      log-ratio as in Liu et al. 2023 (RSO), https://arxiv.org/abs/2309.06657, eq. 10.
    - `ipo`: $(u_c/L_c - u_r/L_r - \frac{1}{2\beta})^2$. Azar et al. 2023, https://arxiv.org/abs/2310.12036, eq. 17, per
      token.
    - `exo_pair`: $\sigma(\beta D)(\log\sigma(\beta D) - \log(1-\epsilon)) + \sigma(-\beta D)(\log\sigma(-\beta D) -
      \log\epsilon)$. Ji et al. 2024, https://arxiv.org/abs/2402.00856, eq. 16. Needs $\epsilon > 0$.
    - `nca_pair`: $-\log\sigma(\beta a) - \frac12\log\sigma(-\beta a) - \frac12\log\sigma(-\beta d)$. Chen et al. 2024,
      https://arxiv.org/abs/2402.05369, eq. 11.
    - `robust`: $[-(1-\epsilon)\log\sigma(\beta D) + \epsilon\log\sigma(-\beta D)] / (1-2\epsilon)$. Chowdhury et al.
      2024, https://arxiv.org/abs/2403.00409, eq. 8. Needs $\epsilon < 1/2$.
    - `bco_pair`: $-\log\sigma(\beta a) - \log\sigma(-\beta d)$. Jung et al. 2024, https://arxiv.org/abs/2404.04656,
      eq. 9, without its shift.
    - `sppo_hard`: $(a - \frac{1}{2\beta})^2 + (d + \frac{1}{2\beta})^2$. Wu et al. 2024,
      https://arxiv.org/abs/2405.00675, eq. 4.7 with probabilities 1 and 0.
    - `aot`: `sigmoid` of the differences between the sorted $c - r$ and the sorted $c_\mathrm{ref} - r_\mathrm{ref}$ of
      all pairs. `aot_unpaired`: of those between the sorted $a$ and the sorted $d$. Melnyk et al. 2024,
      https://arxiv.org/abs/2406.05882, algorithm 1.
    - `apo_zero`: $1 - \sigma(\beta a) + \sigma(\beta d)$. `apo_down`: $\sigma(\beta a) + 1 - \sigma(\beta (a - d))$.
      D'Oosterlinck et al. 2024, https://arxiv.org/abs/2408.06266, eq. 7 and 8.
    - `discopop`: $(1-m)(-\log\sigma(l)) + m e^{-l}$, $l = \beta D$, $m = \sigma(l/\tau)$. Lu et al. 2024,
      https://arxiv.org/abs/2406.08414, eq. 5.
    - `sigmoid_norm`: $-\log\sigma(\beta(u_c/L_c - u_r/L_r))$. Lambert et al. 2024 (Tülu 3),
      https://arxiv.org/abs/2411.15124, eq. 6.

    Args:
        pairs: log-probabilities in nats. For the sorting losses these must be all pairs of the step.
        loss_type: one of the above.
        options: their numbers.
    """
    losses = _LOSSES[loss_type](pairs, options)
    is_loss = _sorted_real(pairs.real) if loss_type in SORTING else pairs.real > 0
    return jnp.where(is_loss, losses, 0.0)


def policy_weights(chosen_log_weights: Float[Array, " R"], rejected_log_weights: Float[Array, " R"]) -> Array:
    r"""WPO's weight of every pair, $w(x,y_w)\,w(x,y_l)$ with $w = \exp(\frac1L\sum_t[\log p_t - \log\sum_v p_{tv}^2])$.

    Passes no gradient. Zhou et al. 2024, https://arxiv.org/abs/2406.11827, eq. 2 and section 3.2.

    Args:
        chosen_log_weights: the exponent of the chosen completions.
        rejected_log_weights: of the rejected ones.
    """
    return jnp.exp(jax.lax.stop_gradient(chosen_log_weights + rejected_log_weights))


def divergence_scores(log_ratios: Float[Array, "*R"], options: DPOOptions) -> Float[Array, "*R"]:
    r"""Returns the score $u = f'(\pi/\pi_\mathrm{ref})$ of a log-ratio $z$.

    `reverse_kl`: $z$. `forward_kl`: $1 - e^{-z}$. `js_divergence`: $\log 2 + \log\sigma(z)$. `alpha_divergence`:
    $(e^{(\alpha-1)z} - 1)/(\alpha-1)$, which tends to $z$ as $\alpha \to 1$. Exponents stop at 80.

    References:
        Wang et al. 2023, https://arxiv.org/abs/2309.16240, table 1.
    """
    kind, alpha = options.f_divergence_type, options.f_alpha_divergence_coef
    if kind == "forward_kl":
        return 1 - _exp(-log_ratios)
    if kind == "js_divergence":
        return math.log(2) + jax.nn.log_sigmoid(log_ratios)
    if kind == "alpha_divergence" and abs(alpha - 1) >= 1e-6:
        return (_exp((alpha - 1) * log_ratios) - 1) / (alpha - 1)
    return log_ratios


def _log_ratios(pairs: Pairs) -> tuple[Array, Array]:
    return pairs.chosen - pairs.reference_chosen, pairs.rejected - pairs.reference_rejected


def _scores(pairs: Pairs, options: DPOOptions) -> tuple[Array, Array]:
    chosen, rejected = _log_ratios(pairs)
    return divergence_scores(chosen, options), divergence_scores(rejected, options)


def _logits(pairs: Pairs, options: DPOOptions) -> Array:
    chosen, rejected = _scores(pairs, options)
    return options.beta * (chosen - rejected)


def _per_token_difference(pairs: Pairs, options: DPOOptions) -> Array:
    chosen, rejected = _scores(pairs, options)
    return chosen / jnp.maximum(pairs.chosen_lengths, 1) - rejected / jnp.maximum(pairs.rejected_lengths, 1)


def _smoothed(logits: Array, smoothing: float) -> Array:
    return -(1 - smoothing) * jax.nn.log_sigmoid(logits) - smoothing * jax.nn.log_sigmoid(-logits)


def _sigmoid(pairs: Pairs, options: DPOOptions) -> Array:
    return _smoothed(_logits(pairs, options), options.label_smoothing)


def _hinge(pairs: Pairs, options: DPOOptions) -> Array:
    return jax.nn.relu(1 - _logits(pairs, options))


def _ipo(pairs: Pairs, options: DPOOptions) -> Array:
    return (_per_token_difference(pairs, options) - 1 / (2 * options.beta)) ** 2


def _exo_pair(pairs: Pairs, options: DPOOptions) -> Array:
    logits, smoothing = _logits(pairs, options), options.label_smoothing
    won = jax.nn.sigmoid(logits) * (jax.nn.log_sigmoid(logits) - math.log1p(-smoothing))
    lost = jax.nn.sigmoid(-logits) * (jax.nn.log_sigmoid(-logits) - math.log(smoothing))
    return won + lost


def _nca_pair(pairs: Pairs, options: DPOOptions) -> Array:
    chosen, rejected = (options.beta * ratio for ratio in _log_ratios(pairs))
    log_sigmoid = jax.nn.log_sigmoid
    return -log_sigmoid(chosen) - 0.5 * log_sigmoid(-chosen) - 0.5 * log_sigmoid(-rejected)


def _robust(pairs: Pairs, options: DPOOptions) -> Array:
    logits, smoothing = _logits(pairs, options), options.label_smoothing
    clean, flipped = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    return (-(1 - smoothing) * clean + smoothing * flipped) / (1 - 2 * smoothing)


def _bco_pair(pairs: Pairs, options: DPOOptions) -> Array:
    chosen, rejected = (options.beta * ratio for ratio in _log_ratios(pairs))
    return -jax.nn.log_sigmoid(chosen) - jax.nn.log_sigmoid(-rejected)


def _sppo_hard(pairs: Pairs, options: DPOOptions) -> Array:
    chosen, rejected = _log_ratios(pairs)
    half = 0.5 / options.beta
    return (chosen - half) ** 2 + (rejected + half) ** 2


def _aot(pairs: Pairs, options: DPOOptions) -> Array:
    policy = _sorted(pairs.chosen - pairs.rejected, pairs.real)
    reference = _sorted(pairs.reference_chosen - pairs.reference_rejected, pairs.real)
    return _smoothed(options.beta * (policy - reference), options.label_smoothing)


def _aot_unpaired(pairs: Pairs, options: DPOOptions) -> Array:
    chosen, rejected = (_sorted(ratio, pairs.real) for ratio in _log_ratios(pairs))
    return _smoothed(options.beta * (chosen - rejected), options.label_smoothing)


def _apo_zero(pairs: Pairs, options: DPOOptions) -> Array:
    chosen, rejected = _log_ratios(pairs)
    return 1 - jax.nn.sigmoid(options.beta * chosen) + jax.nn.sigmoid(options.beta * rejected)


def _apo_down(pairs: Pairs, options: DPOOptions) -> Array:
    chosen, rejected = _log_ratios(pairs)
    return jax.nn.sigmoid(options.beta * chosen) + 1 - jax.nn.sigmoid(options.beta * (chosen - rejected))


def _discopop(pairs: Pairs, options: DPOOptions) -> Array:
    logits = _logits(pairs, options)
    mixed = jax.nn.sigmoid(logits / options.discopop_tau)
    return -jax.nn.log_sigmoid(logits) * (1 - mixed) + _exp(-logits) * mixed


def _sigmoid_norm(pairs: Pairs, options: DPOOptions) -> Array:
    return -jax.nn.log_sigmoid(options.beta * _per_token_difference(pairs, options))


_LOSSES: dict[str, Callable[[Pairs, DPOOptions], Array]] = {
    "sigmoid": _sigmoid,
    "hinge": _hinge,
    "ipo": _ipo,
    "exo_pair": _exo_pair,
    "nca_pair": _nca_pair,
    "robust": _robust,
    "bco_pair": _bco_pair,
    "sppo_hard": _sppo_hard,
    "aot": _aot,
    "aot_unpaired": _aot_unpaired,
    "apo_zero": _apo_zero,
    "apo_down": _apo_down,
    "discopop": _discopop,
    "sigmoid_norm": _sigmoid_norm,
}


def _exp(exponent: Array) -> Array:
    return jnp.exp(jnp.minimum(exponent, _LARGEST_EXPONENT))


def _sorted(values: Array, real: Array) -> Array:
    """Ascending; empty rows come last, and are 0."""
    in_front = jnp.sort(jnp.where(real > 0, values, jnp.finfo(values.dtype).max))
    return jnp.where(_sorted_real(real), in_front, 0.0)


def _sorted_real(real: Array) -> Array:
    return jnp.arange(len(real)) < real.sum()
