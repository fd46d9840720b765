"""Choosing the next token from logits: pure functions of (logits, one uniform number per row).

A row spends exactly one uniform number on a token: the sampler inverts the cumulative distribution, first over blocks
of words, then inside one block. That is far cheaper than a random number per word, and it makes a token a function of
its own row alone, so that results do not depend on which rows are decoded together.

Top-k, top-p and min-p only set weights below a threshold to zero. Words that tie with the last one kept are kept too,
as in transformers. What is done to the logits before (a repetition penalty, forbidden stop tokens) is in
`logits_processing`. The log-probability reported is that of the model at the sampling temperature, before any of this:
it is what a policy gradient needs, it is never -inf, and it can be computed again from the text alone.

Axes: B rows, V vocabulary.

    >>> import jax.numpy as jnp
    >>> logits = jnp.log(jnp.array([[0.2, 0.5, 0.3]]))
    >>> [int(choose(logits, jnp.array([u]), Sampling())[0][0]) for u in (0.1, 0.3, 0.9)]
    [0, 1, 2]
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from easydel_models.lm_loss.label_logps import LEAST_TEMPERATURE

_BLOCK = 256
"""Words summed up at a time; near the square root of common vocabularies, where both levels cost the same."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How a token is drawn; hashable, so that it can be static in a compiled function."""

    temperature: float = 1.0
    """Above 0; divides the logits."""
    top_k: int = 0
    """Draw from the k likeliest words only; 0 = from all."""
    top_p: float = 1.0
    """In (0, 1]; draw from the fewest likeliest words that together have at least this share (after top_k)."""

    min_p: float = 0.0
    """In [0, 1]; draw from the words at least this many times as likely as the likeliest; 0 = from all."""


def choose(
    logits: Float[Array, "B V"],
    uniforms: Float[Array, " B"],
    sampling: Sampling | None,
    processed: Float[Array, "B V"] | None = None,
) -> tuple[Int[Array, " B"], Float[Array, " B"]]:
    """Draws (None: takes the likeliest) from ``processed``; the log-probabilities are those of ``logits``.

    Args:
        logits: What the model says; at least one finite in each row.
        uniforms: In [0, 1), one for each row.
        sampling: How to draw; None = greedy.
        processed: What to draw from instead, with at least one finite number in each row; None = ``logits``.

    Returns:
        The tokens, and their log-probabilities at the sampling temperature (greedy: at 1) before any truncation.
    """
    source = logits if processed is None else processed
    if sampling is None:
        tokens = _likeliest(source)
    else:
        tokens = invert_cdf(_kept(_weights(source, sampling.temperature), sampling), uniforms)
    temperature = 1.0 if sampling is None else sampling.temperature
    total = jnp.sum(_weights(logits, temperature), axis=-1)
    return tokens, _pick(_scaled(logits, temperature), tokens) - jnp.log(total)


def invert_cdf(weights: Float[Array, "B V"], uniforms: Float[Array, " B"]) -> Int[Array, " B"]:
    """Returns the first word of every row at which the running sum of weights exceeds `uniform * total`.

    A word of weight 0 is never returned, wherever rounding puts the target: past the last partial sum, the last word of
    positive weight is.

    Args:
        weights: >= 0, not normalised, with a positive sum in each row.
        uniforms: in [0, 1]; 1 stands for the last word of positive weight.
    """
    rows, vocab = weights.shape
    padded = jnp.pad(weights, ((0, 0), (0, -vocab % _BLOCK)))
    blocks = padded.reshape(rows, -1, _BLOCK)
    sums = jnp.sum(blocks, axis=-1)
    ends = jnp.cumsum(sums, axis=-1)
    target = uniforms * ends[:, -1]
    block = _first_above(ends, sums, target)
    before = jnp.where(block > 0, _pick(ends, jnp.maximum(block - 1, 0)), 0.0)
    inside = jnp.take_along_axis(blocks, block[:, None, None], axis=1)[:, 0]
    return block * _BLOCK + _first_above(jnp.cumsum(inside, axis=-1), inside, target - before)


def uniforms_for(key: Key[Array, ""], rows: Int[Array, " B"], positions: Int[Array, " B"]) -> Float[Array, " B"]:
    """Returns one number in [0, 1) for every row: a function of (key, row, its position) whatever other rows there are.

    Args:
        key: of the whole generation.
        rows: a number for each row, its index among all completions.
        positions: how many tokens were generated in each row before this one.
    """

    def draw(row: Array, position: Array) -> Array:
        return jax.random.uniform(jax.random.fold_in(jax.random.fold_in(key, row), position))

    return jax.vmap(draw)(rows, positions)


def _likeliest(logits: Float[Array, "B V"]) -> Int[Array, " B"]:
    """Returns the first of the largest. XLA on CPU takes seven times as long for an argmax, which it does word by
    word.
    """
    words = jnp.arange(logits.shape[-1], dtype=jnp.int32)
    largest = logits == jnp.max(logits, axis=-1, keepdims=True)
    return jnp.min(jnp.where(largest, words[None], words[-1]), axis=-1)


def _scaled(logits: Float[Array, "B V"], temperature: float) -> Float[Array, "B V"]:
    # Shifted before it is divided, so that no temperature, however small, overflows.
    return (logits - jnp.max(logits, axis=-1, keepdims=True)) / max(temperature, LEAST_TEMPERATURE)


def _weights(logits: Float[Array, "B V"], temperature: float) -> Float[Array, "B V"]:
    return jnp.exp(_scaled(logits, temperature))


def _kept(weights: Float[Array, "B V"], sampling: Sampling) -> Float[Array, "B V"]:
    threshold = _threshold(weights, sampling.top_k, sampling.top_p)
    if sampling.min_p > 0:
        # The likeliest word weighs exp(0) = 1.
        floor = jnp.full(weights.shape[:1], sampling.min_p, weights.dtype)
        threshold = floor if threshold is None else jnp.maximum(threshold, floor)
    return weights if threshold is None else jnp.where(weights >= threshold[:, None], weights, 0.0)


def _first_above(ends: Array, sums: Array, target: Array) -> Int[Array, " B"]:
    index = jnp.arange(ends.shape[-1], dtype=jnp.int32)
    last_positive = jnp.max(jnp.where(sums > 0, index, 0), axis=-1)
    return jnp.minimum(jnp.sum(ends <= target[:, None], axis=-1, dtype=jnp.int32), last_positive)


def _pick(values: Array, index: Int[Array, " B"]) -> Array:
    return jnp.take_along_axis(values, index[:, None], axis=-1)[:, 0]


def _threshold(weights: Float[Array, "B V"], top_k: int, top_p: float) -> Float[Array, " B"] | None:
    """Returns the smallest weight that stays; None = all stay."""
    if 0 < top_k < weights.shape[-1]:
        best = jax.lax.top_k(weights, top_k)[0]
        before = jnp.cumsum(best, axis=-1) - best
        stays = before < top_p * jnp.sum(best, axis=-1, keepdims=True)
        return jnp.min(jnp.where(stays, best, jnp.inf), axis=-1)
    return _nucleus_threshold(weights, top_p) if top_p < 1 else None


def _nucleus_threshold(weights: Float[Array, "B V"], top_p: float) -> Float[Array, " B"]:
    """Returns the largest t with `sum(weights >= t) >= top_p * total`, found by bisection instead of a sort of the
    vocabulary.

    Non-negative floats are ordered like their bit patterns, so thirty halvings of those find the exact threshold.
    """
    enough = top_p * jnp.sum(weights, axis=-1)

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = low + (high - low) // 2
        cut = jax.lax.bitcast_convert_type(middle, jnp.float32)
        reached = jnp.sum(jnp.where(weights >= cut[:, None], weights, 0.0), axis=-1) >= enough
        return jnp.where(reached, middle, low), jnp.where(reached, high, middle)

    # The largest weight is exp(0) = 1, which always stays: it is the bound above (excluded) that moves down.
    low = jnp.zeros(weights.shape[:1], jnp.int32)
    high = jnp.full(weights.shape[:1], jax.lax.bitcast_convert_type(jnp.float32(1.0), jnp.int32))
    low, _ = jax.lax.fori_loop(0, 30, halve, (low, high + 1))
    return jax.lax.bitcast_convert_type(low, jnp.float32)
