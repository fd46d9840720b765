r"""Weights for tokens that another engine sampled, whose log-probabilities are not exactly those of the model.

With $d_t = \log\pi_\mathrm{old}(y_t) - \log\pi_\mathrm{engine}(y_t)$ a token weighs $e^{d_t}$, or all tokens of a
completion weigh $e^{\sum_t d_t}$; what is out of bounds is cut to the bound, or weighs nothing.

Yao et al. 2025, "Your efficient RL framework secretly brings you off-policy RL training",
https://fengyao.notion.site/off-policy-rl; Liu et al. 2025, "When speed kills stability" (masking whole sequences).

Axes: M micro-batches, B bins, T positions.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from easydel_trainers.algorithms.grpo.config import GRPOConfig
from easydel_trainers.step.metrics import Maximum, Minimum, Ratios


def corrections_of(
    old_logps: Float[np.ndarray, "M B T"],
    engine_logps: Float[np.ndarray, "M B T"],
    counted: Bool[np.ndarray, "M B T"],
    segment_ids: Int[np.ndarray, "M B T"],
    config: GRPOConfig,
) -> Float[np.ndarray, "M B T"]:
    """Returns weights of all positions; 1 where nothing counts.

    A log-probability that the engine left out (NaN) corrects nothing.

    Args:
        old_logps: of the model that sampled, as this trainer computes them, at the positions that predict.
        engine_logps: of the engine, at the same positions.
        counted: positions whose token counts.
        segment_ids: number of each position's completion within its micro-batch.
        config: how to bound the weights.
    """
    difference = np.where(counted, np.nan_to_num(old_logps - engine_logps, nan=0.0), 0.0)
    level, bounding = config.importance_sampling_mode.split("_")
    if level == "sequence":
        difference = np.stack([_summed(*part) for part in zip(difference, segment_ids, strict=True)])
    # Beyond e^30 every bound that anyone sets is passed; more would be infinite.
    ratios = np.exp(np.minimum(difference, 30.0))
    low, high = config.importance_sampling_clip_min, config.importance_sampling_clip_max
    if bounding == "truncate":
        bounded = np.clip(ratios, low, high) if (low, high) != (None, None) else ratios
    else:
        outside = (ratios < (0.0 if low is None else low)) | (ratios > (np.inf if high is None else high))
        bounded = np.where(outside, 0.0, ratios)
    return np.where(counted, bounded, 1.0).astype(np.float32)


def correction_metrics(
    old_logps: Float[np.ndarray, "M B T"],
    engine_logps: Float[np.ndarray, "M B T"],
    counted: Bool[np.ndarray, "M B T"],
    weights: Float[np.ndarray, "M B T"],
) -> Ratios:
    """Returns how far engine and model are apart, under TRL's names; of counted tokens."""
    apart = np.abs(np.nan_to_num(old_logps - engine_logps, nan=0.0))[counted]
    weights, count = weights[counted], float(counted.sum())
    there_are = float(count > 0)
    return {
        "sampling/sampling_logp_difference/mean": (float(apart.sum()), count),
        "sampling/sampling_logp_difference/max": Maximum(float(apart.max(initial=0.0)), there_are),
        "sampling/importance_sampling_ratio/min": Minimum(
            float(weights.min(initial=np.inf)) if count else 0.0, there_are
        ),
        "sampling/importance_sampling_ratio/mean": (float(weights.sum()), count),
        "sampling/importance_sampling_ratio/max": Maximum(float(weights.max(initial=0.0)), there_are),
    }


def _summed(values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Returns every position's sum over the positions with its number."""
    return np.bincount(numbers.reshape(-1), weights=values.reshape(-1))[numbers]
