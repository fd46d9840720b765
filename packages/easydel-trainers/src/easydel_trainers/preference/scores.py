"""What a language model says of every sequence of a micro-batch, from one forward pass.

Axis letters: S sequences of a row, R rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from easydel_models.decoder import Decoded
from easydel_models.lm_loss import IGNORE_INDEX, token_logps, token_stats
from jaxtyping import Array, Float

from easydel_trainers.data.step_rows import PROMPT, TAIL
from easydel_trainers.step.forward import segments_of, sequence_numbers
from easydel_trainers.step.objective import Batch, Scores
from easydel_trainers.step.targets import next_labels, of_next


def sequence_scores(
    model: Any,
    batch: Batch,
    *,
    sequences: int,
    ld_alpha: float | None = None,
    with_log_weights: bool = False,
    router: Callable[[Decoded], Scores] = lambda decoded: {},
    **how: Any,
) -> Scores:
    """Returns scores of a micro-batch that `SequenceLayout` arranged.

    Args:
        model: a `CausalLM`.
        batch: `input_ids`, `labels`, `part` and `segment_ids` `[bins, length]`, and `rows`.
        sequences: S.
        ld_alpha: weight of a tail's tokens in `logps`, in [0, 1]; `None` = 1.
        with_log_weights: also compute `log_weights`.
        router: further scores of the pass as a whole.
        how: further options of `model.hidden`.

    Returns:
        Float32 arrays `[S, R]`, beside those of ``router``; only the first two pass a gradient.

        - `logps`: log-probability of the completion given the prompt: a sum over its tokens, tails weighted.
        - `nll`: negative log-likelihood summed over all labels (the completion's, and the prompt's where trained).
        - `lengths`: tokens of the completion. `label_counts`: labels.
        - `entropies`: entropy summed over the completion's tokens, in nats.
        - `correct`: tokens of the completion that no other token is likelier than.
        - `logits`: mean logit over the vocabulary, summed over the completion's tokens.
        - `log_weights`: mean over the completion of log p_t - log sum_v p_tv^2: how on-policy it is.
    """
    decoded = model.decoded(batch["input_ids"], **segments_of(batch), **how)
    hidden = decoded.hidden
    head, targets, part = model.linear_head(), next_labels(batch["labels"]), of_next(batch["part"])
    stats = token_stats(hidden, head, targets, with_collision=with_log_weights, with_mean_logit=True)
    in_completion = ((targets != IGNORE_INDEX) & (part != PROMPT)).astype(jnp.float32)

    def per_sequence(values: jax.Array) -> jax.Array:
        return _per_sequence(values, batch, sequences)

    lengths = per_sequence(in_completion)
    fixed = jax.lax.stop_gradient
    log_weights = per_sequence(fixed(stats.logp - stats.collision) * in_completion) / jnp.maximum(lengths, 1)
    return {
        **router(decoded),
        "logps": per_sequence(stats.logp * _token_weights(in_completion, part, ld_alpha)),
        "nll": -per_sequence(stats.logp),
        "lengths": lengths,
        "label_counts": per_sequence((targets != IGNORE_INDEX).astype(jnp.float32)),
        "entropies": per_sequence(fixed(stats.entropy) * in_completion),
        "correct": per_sequence(stats.correct.astype(jnp.float32) * in_completion),
        "logits": per_sequence(fixed(stats.mean_logit) * in_completion),
        "log_weights": log_weights if with_log_weights else jnp.zeros_like(lengths),
    }


def sequence_logps(
    model: Any, batch: Batch, *, sequences: int, ld_alpha: float | None = None, **how: Any
) -> Float[Array, "S R"]:
    """`logps` of `sequence_scores` alone, for a model that is not trained."""
    hidden = model.hidden(batch["input_ids"], **segments_of(batch), **how)
    targets, part = next_labels(batch["labels"]), of_next(batch["part"])
    # Prompts that are trained elsewhere count for nothing here.
    targets = jnp.where(part == PROMPT, IGNORE_INDEX, targets)
    logps = token_logps(hidden, model.linear_head(), targets)
    weights = _token_weights((targets != IGNORE_INDEX).astype(jnp.float32), part, ld_alpha)
    return _per_sequence(logps * weights, batch, sequences)


def _token_weights(in_completion: jax.Array, part: jax.Array, ld_alpha: float | None) -> jax.Array:
    return in_completion if ld_alpha is None else jnp.where(part == TAIL, ld_alpha * in_completion, in_completion)


def _per_sequence(values: jax.Array, batch: Batch, sequences: int) -> jax.Array:
    """Returns sums over every sequence's tokens; a position and the one it predicts are of the same sequence."""
    rows = batch["rows"]["real"].shape[-1]
    numbers = sequence_numbers(batch, count=sequences * rows)
    sums = jax.ops.segment_sum(values.reshape(-1), numbers.reshape(-1), num_segments=1 + sequences * rows)
    return sums[1:].reshape(sequences, rows)
