r"""Losses of group-relative policy optimisation, per token and summed up.

Everything is a flat array over the N positions of a micro-batch, whose rows lie on it wherever they like; `Rows` says
which row each position belongs to. Positions that count for nothing have a `mask` of 0.

With $\rho_t = \pi_\theta(y_t)/\pi_\mathrm{old}(y_t)$, or its geometric mean over a row for `sequence`, and the
advantage $A$ of a row, the loss of a token is

- `grpo`, `bnpo`, `dr_grpo`, `dapo`:
  $-\min(\min(\rho, \delta) A,\ \mathrm{clip}(\rho, 1-\epsilon, 1+\epsilon_\mathrm{high}) A)$
- `cispo`: $-\mathrm{sg}(\min(\rho, \epsilon_\mathrm{high}))\, A \log\pi_\theta(y_t)$
- `sapo`: $-\frac{4}{\tau}\sigma(\tau(\rho - 1)) A$, with a temperature $\tau$ for positive and one for other advantages

and to it $\beta$ times the KL estimate $e^{d} - d - 1$ is added, $d = \log\pi_\mathrm{ref}(y_t) - \log\pi_\theta(y_t)$.
Beyond an exponent of 20 the tangent takes the place of the exponential function, which would overflow.

Sources, by their number on arxiv.org: GRPO 2402.03300 (eq. 3 and 4), Dr. GRPO 2503.20783, DAPO 2503.14476, GSPO
2507.18071, CISPO 2506.13585, SAPO 2511.20347. The estimate of the KL divergence is Schulman's,
http://joschu.net/blog/kl-approx.html.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from easydel_trainers.algorithms.grpo.loss_names import GRPOLossType, RatioLevel
from easydel_trainers.step.metrics import Maximum, Minimum, Ratio, Ratios

_LARGEST_EXPONENT = 20.0  # a ratio of 5e8; no run that goes well has one

#: losses that average over the tokens of each row first, and then over rows
PER_ROW = frozenset({"grpo", "sapo"})


@dataclass(frozen=True, kw_only=True, slots=True)
class GRPOOptions:
    """What a loss depends on beside its arrays; see `GRPOConfig` for each."""

    loss_type: GRPOLossType = "dapo"
    ratio_level: RatioLevel = "token"
    epsilon: float = 0.2
    epsilon_high: float = 0.2
    delta: float | None = None
    beta: float = 0.0
    use_bias_correction_kl: bool = True
    sapo_temperature_pos: float = 1.0
    sapo_temperature_neg: float = 1.05


class Rows(NamedTuple):
    """Which row every position belongs to, and how many rows there are. Row numbers count from 1; 0 = no row."""

    number: Int[Array, " N"]
    real: Float[Array, " R"]
    """1 = there is such a row."""

    def sums(self, values: Float[Array, " N"]) -> Float[Array, " R"]:
        """Returns the sum over the positions of every row."""
        return jax.ops.segment_sum(values, self.number, num_segments=1 + len(self.real))[1:]

    def spread(self, values: Float[Array, " R"]) -> Float[Array, " N"]:
        """Returns every position's own row's value."""
        return jnp.concatenate([jnp.zeros_like(values[:1]), values])[self.number]

    def means(self, values: Float[Array, " N"], mask: Float[Array, " N"]) -> Float[Array, " R"]:
        """Returns the mean over the masked-in positions of every row; 0 where it has none."""
        return self.sums(values * mask) / jnp.maximum(self.sums(mask), 1.0)


class Tokens(NamedTuple):
    """What is known of every position. Only `logps` passes a gradient."""

    logps: Float[Array, " N"]
    """Log-probability under the model that is trained."""
    old_logps: Float[Array, " N"]
    """The same under the model that sampled the token."""
    reference_logps: Float[Array, " N"]
    """The same under the reference model; anything where `beta` is 0."""
    entropies: Float[Array, " N"]
    mask: Float[Array, " N"]
    """1 = a token of a completion that counts."""
    weights: Float[Array, " N"]
    """What the policy's part of the loss is multiplied with: 0 for tokens of low entropy where those are left out,
    and the correction for another engine's log-probabilities."""


def grpo_loss(
    tokens: Tokens, rows: Rows, advantages: Float[Array, " R"], options: GRPOOptions
) -> tuple[Float[Array, ""], Ratios]:
    """Returns the loss summed over rows (`grpo`, `sapo`: each row's mean over its tokens) or over tokens (the others).

    Args:
        tokens: of all positions.
        rows: where they belong.
        advantages: of every row.
        options: which loss.

    Returns:
        The sum, and metrics under TRL's names.
    """
    ratios, mask = importance_ratios(tokens, rows, level=options.ratio_level), tokens.mask
    of_positions = rows.spread(advantages)
    per_token = tokens.weights * policy_losses(ratios, tokens.logps, of_positions, options)
    metrics: Ratios = {"entropy": ((tokens.entropies * mask).sum(), mask.sum())}
    if options.beta:
        divergence = kl_estimates(tokens.logps, tokens.reference_logps)
        if options.use_bias_correction_kl:
            divergence = divergence * ratios
        per_token = per_token + options.beta * divergence
        metrics["kl"] = ((divergence * mask).sum(), mask.sum())
    metrics |= _clip_metrics(ratios, of_positions, mask, rows, options)
    if options.loss_type in PER_ROW:
        return (rows.means(per_token, mask) * rows.real).sum(), metrics
    return (per_token * mask).sum(), metrics


def importance_ratios(tokens: Tokens, rows: Rows, *, level: RatioLevel) -> Float[Array, " N"]:
    """Returns how much likelier a token has become since it was sampled; for `sequence` the row's geometric mean of
    that.
    """
    log_ratios = (tokens.logps - tokens.old_logps) * tokens.mask
    if level == "sequence":
        log_ratios = rows.spread(rows.means(log_ratios, tokens.mask))
    return _bounded_exp(log_ratios)


def policy_losses(
    ratios: Float[Array, " N"], logps: Float[Array, " N"], advantages: Float[Array, " N"], options: GRPOOptions
) -> Float[Array, " N"]:
    """Returns the policy's part of every token's loss; formulas at the top of this file."""
    if options.loss_type == "cispo":
        return -jax.lax.stop_gradient(jnp.minimum(ratios, options.epsilon_high)) * advantages * logps
    if options.loss_type == "sapo":
        tau = jnp.where(advantages > 0, options.sapo_temperature_pos, options.sapo_temperature_neg)
        return -jax.nn.sigmoid(tau * (ratios - 1)) * 4 / tau * advantages
    clipped = jnp.clip(ratios, 1 - options.epsilon, 1 + options.epsilon_high)
    return -jnp.minimum(_capped(ratios, options) * advantages, clipped * advantages)


def kl_estimates(logps: Float[Array, " N"], reference_logps: Float[Array, " N"]) -> Float[Array, " N"]:
    """Non-negative, unbiased estimates of the divergence from the reference, one for each token."""
    difference = reference_logps - logps
    return _bounded_exp(difference) - difference - 1


def loss_weight(
    mask: Float[Array, " N"], real: Float[Array, " R"], *, loss_type: GRPOLossType, max_completion_length: int
) -> Float[Array, ""]:
    """Returns what the sum of `grpo_loss` is divided by.

    Rows for `grpo` and `sapo`; the most tokens that the rows could have had for `dr_grpo`; else the tokens there are.
    """
    if loss_type in PER_ROW:
        return real.sum()
    return real.sum() * max_completion_length if loss_type == "dr_grpo" else mask.sum()


def _bounded_exp(exponent: Array) -> Array:
    """Returns the exponential function, beyond 20 its tangent: finite, and with a gradient that still points back."""
    within = jnp.exp(jnp.minimum(exponent, _LARGEST_EXPONENT))
    return within * (1 + jax.nn.relu(exponent - _LARGEST_EXPONENT))


def _capped(ratios: Array, options: GRPOOptions) -> Array:
    return ratios if options.delta is None else jnp.minimum(ratios, options.delta)


def _clip_metrics(ratios: Array, advantages: Array, mask: Array, rows: Rows, options: GRPOOptions) -> Ratios:
    if options.loss_type == "sapo":
        return {}
    if options.loss_type == "cispo":
        cut = (ratios > options.epsilon_high) & (advantages > 0)
        return {"cispo_clip_ratio": _share(cut, mask, rows, options)}
    capped = _capped(ratios, options)
    low = (capped < 1 - options.epsilon) & (advantages < 0)
    high = (capped > 1 + options.epsilon_high) & (advantages > 0)
    has_tokens = rows.sums(mask) > 0
    any_tokens = has_tokens.any().astype(jnp.float32)
    low_by_row, high_by_row = (rows.means(cut.astype(jnp.float32), mask) for cut in (low, high))
    return {
        "clip_ratio/low_mean": _share(low, mask, rows, options),
        "clip_ratio/high_mean": _share(high, mask, rows, options),
        "clip_ratio/region_mean": _share(low | high, mask, rows, options),
        "clip_ratio/low_min": Minimum(any_tokens * jnp.where(has_tokens, low_by_row, 1.0).min(), any_tokens),
        "clip_ratio/high_max": Maximum(jnp.where(has_tokens, high_by_row, 0.0).max(), any_tokens),
    }


def _share(cut: Array, mask: Array, rows: Rows, options: GRPOOptions) -> Ratio:
    """Of tokens, or, where all tokens of a row have the same ratio, of rows."""
    cut = cut.astype(jnp.float32)
    if options.ratio_level == "sequence":
        return (rows.means(cut, mask) * rows.real).sum(), rows.real.sum()
    return (cut * mask).sum(), mask.sum()
