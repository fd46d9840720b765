r"""The odds ratio term of ORPO: a pure function of log-probabilities.

Axis letters: R pairs (rows).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_NEAREST_TO_ONE = -1e-6  # log-probability at which the odds stop: beyond it they have no float32 value


class OddsRatio(NamedTuple):
    """Per pair."""

    losses: Float[Array, " R"]
    log_odds: Float[Array, " R"]
    """Log of the odds ratio."""
    log_sigmoid: Float[Array, " R"]
    """Its log-sigmoid: minus the loss, without beta."""


def orpo_losses(chosen: Float[Array, " R"], rejected: Float[Array, " R"], *, beta: float) -> OddsRatio:
    r"""Returns the odds ratio loss of every pair.

    With $p$ the geometric mean of a completion's token probabilities and $\mathrm{odds}(p) = p/(1-p)$,

    $$\ell = -\beta \log\sigma\left(\log\frac{\mathrm{odds}(p_w)}{\mathrm{odds}(p_l)}\right)$$

    The whole loss adds the negative log-likelihood of prompt and chosen completion, per token.

    Args:
        chosen: mean log-probability of the chosen completion's tokens, $\log p_w \le 0$. Beyond $-10^{-6}$ the odds
            stop growing and pass no gradient, instead of becoming infinite.
        rejected: of the rejected completion.
        beta: weight of the term, lambda in the paper.

    References:
        Hong et al., "ORPO: Monolithic Preference Optimization without Reference Model", 2024,
        https://arxiv.org/abs/2403.07691, eq. 4 to 7.
    """
    log_odds = _log_odds(chosen) - _log_odds(rejected)
    log_sigmoid = jax.nn.log_sigmoid(log_odds)
    return OddsRatio(-beta * log_sigmoid, log_odds, log_sigmoid)


def _log_odds(logp: Array) -> Array:
    logp = jnp.minimum(logp, _NEAREST_TO_ONE)
    return logp - _log1mexp(logp)


def _log1mexp(z: Array) -> Array:
    """log(1 - e^z) of negative z: each of two forms where it is exact (Mächler 2012), also in the gradient."""
    small = z > -math.log(2)
    near_zero = jnp.log(-jnp.expm1(jnp.where(small, z, -1.0)))
    far = jnp.log1p(-jnp.exp(jnp.where(small, -1.0, z)))
    return jnp.where(small, near_zero, far)
