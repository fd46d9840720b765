"""Log-probabilities of given labels under a linear head, one per token, with a recomputing backward pass.

Losses over pairs or groups weigh tokens only after all log-probabilities are known, so gradients cannot be
formed in the forward pass. Kept per token are its log-normaliser and entropy; the backward pass rebuilds the
logits chunk by chunk.

Axes: N tokens, D model width, V vocabulary, C tokens of one chunk.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, overload

import jax
import jax.numpy as jnp
from jax.custom_derivatives import CustomVJPPrimal, SymbolicZero
from jaxtyping import Array, Bool, Float, Int

from easydel_models.lm_loss import chunks as chunks
from easydel_models.lm_loss.head import LinearHead, parts_of
from easydel_models.lm_loss.sharding import over_tokens


class TokenStats(NamedTuple):
    """What `token_stats` knows of every position; 0 or False where the label is ignored."""

    logp: Float[Array, "*N"]
    """Log-probability of the label."""
    entropy: Float[Array, "*N"]
    """Of the predicted distribution, in nats."""
    correct: Bool[Array, "*N"]
    """No word is likelier than the label."""
    collision: Float[Array, "*N"]
    """log sum_v p_v^2: how likely two draws are the same word. Zeros unless asked for."""
    mean_logit: Float[Array, "*N"]
    """Mean of the logits, soft-capped and divided by the temperature, over the vocabulary. Zeros unless asked for."""


@overload
def token_logps(
    hidden: Float[Array, "*N D"],
    head: Float[Array, "V D"] | LinearHead,
    labels: Int[Array, "*N"],
    *,
    temperature: float = ...,
    softcap: float | None = ...,
    with_entropy: Literal[False] = ...,
    chunk: int = ...,
) -> Float[Array, "*N"]: ...
@overload
def token_logps(
    hidden: Float[Array, "*N D"],
    head: Float[Array, "V D"] | LinearHead,
    labels: Int[Array, "*N"],
    *,
    temperature: float = ...,
    softcap: float | None = ...,
    with_entropy: Literal[True],
    chunk: int = ...,
) -> tuple[Float[Array, "*N"], Float[Array, "*N"]]: ...
def token_logps(
    hidden: Float[Array, "*N D"],
    head: Float[Array, "V D"] | LinearHead,
    labels: Int[Array, "*N"],
    *,
    temperature: float = 1.0,
    softcap: float | None = None,
    with_entropy: bool = False,
    chunk: int = 512,
) -> Float[Array, "*N"] | tuple[Float[Array, "*N"], Float[Array, "*N"]]:
    """Returns the log-probability of every label under `softmax(softcap(hidden @ head.T) / temperature)`.

    Differentiable (once) with respect to `hidden` and `head`, through the log-probabilities and the
    entropies. The gradient of a frozen head is not computed. The products run in the dtype of `hidden`;
    softmax, results and the head's gradient are kept in float32.

    Args:
        hidden: last hidden states of every position that predicts: one row each, or [rows, tokens, D].
        head: output embedding, one row per word; or a `LinearHead`, which brings its soft cap along.
        labels: the word each position has to predict (shifted by the caller), -100 where it is of no
            interest. Any other label outside 0..V-1 gives NaN.
        temperature: > 0; divides the (soft-capped) logits.
        softcap: `c` of `c * tanh(logits / c)`; None = no cap.
        with_entropy: also return the entropy of every predicted distribution.
        chunk: tokens whose logits exist at one time; costs 8 bytes per chunk token and word.

    Returns:
        `logps` in float32, 0 where ignored; with `with_entropy` the pair `(logps, entropy)`, the entropy in
        nats and likewise 0 where ignored.

    Raises:
        ValueError: shapes do not fit, or an option is out of range.
    """
    head, softcap = parts_of(head, softcap)
    options = _Options(temperature, softcap, chunk, with_entropy=with_entropy)
    logps, entropy, *_ = _per_token(_checked(hidden, head, labels, options), hidden, head, labels)
    return logps if entropy is None else (logps, entropy)


def token_stats(
    hidden: Float[Array, "*N D"],
    head: Float[Array, "V D"] | LinearHead,
    labels: Int[Array, "*N"],
    *,
    temperature: float = 1.0,
    softcap: float | None = None,
    with_collision: bool = False,
    with_mean_logit: bool = False,
    chunk: int = 512,
) -> TokenStats:
    """`token_logps` with everything else that a chunk's logits tell.

    Differentiable through `logp` and `entropy`; the others pass no gradient.

    Args:
        hidden: see `token_logps`, as the arguments below.
        head: see `token_logps`.
        labels: the word each position has to predict, -100 where it is of no interest.
        temperature: > 0; divides the (soft-capped) logits.
        softcap: `c` of `c * tanh(logits / c)`; None = no cap.
        with_collision: also compute `TokenStats.collision`.
        with_mean_logit: also compute `TokenStats.mean_logit`.
        chunk: tokens whose logits exist at one time.

    Raises:
        ValueError: shapes do not fit, or an option is out of range.
    """
    head, softcap = parts_of(head, softcap)
    options = _Options(
        temperature,
        softcap,
        chunk,
        with_entropy=True,
        with_correct=True,
        with_collision=with_collision,
        with_mean_logit=with_mean_logit,
    )
    logp, entropy, correct, *asked = _per_token(_checked(hidden, head, labels, options), hidden, head, labels)
    return TokenStats(logp, entropy, correct > 0, *(jnp.zeros_like(logp) if one is None else one for one in asked))


LEAST_TEMPERATURE = 1e-30
"""Smaller ones count as this: float32 has no quotient by them, and all probability is the likeliest word's anyway."""


class _Options(NamedTuple):
    temperature: float
    softcap: float | None
    chunk: int
    with_entropy: bool = False
    with_correct: bool = False
    with_collision: bool = False
    with_mean_logit: bool = False
    vocabulary: chunks.Vocabulary = chunks.WHOLE


class _PerToken(NamedTuple):
    """None = not asked for."""

    logp: Array
    entropy: Array | None
    correct: Array | None
    collision: Array | None
    mean_logit: Array | None
    lse: Array
    """Log-normaliser in units of the logits: temperature times that of `logits / temperature`."""


def _checked(hidden: Array, head: Array, labels: Array, options: _Options) -> _Options:
    chunks.check_shapes(hidden, head, labels, options.chunk)
    if not options.temperature > 0:
        raise ValueError(f"`temperature` must be > 0, got {options.temperature}")
    return options._replace(temperature=max(options.temperature, LEAST_TEMPERATURE))


def _per_token(options: _Options, hidden: Array, head: Array, labels: Array) -> tuple[Any, ...]:
    def run(hidden: Array, head: Array, labels: Array, vocabulary: chunks.Vocabulary) -> tuple[Array | None, ...]:
        own = options._replace(chunk=min(options.chunk, labels.shape[0]), vocabulary=vocabulary)
        return _jitted(own, hidden, head, labels)

    return over_tokens(run, hidden, head, labels, summed=False)


class _Gradients(NamedTuple):
    """None = not asked for."""

    hidden: Array | None
    head: chunks.HeadGradient | None


def _value(options: _Options, hidden: Array, head: Array, labels: Array) -> tuple[Array | None, ...]:
    return _run(options, hidden, head, labels)[:5]


def _forward(options: _Options, hidden: CustomVJPPrimal, head: CustomVJPPrimal, labels: CustomVJPPrimal):
    *results, lse = _run(options, hidden.value, head.value, labels.value)
    # Residuals are arrays only: what is asked for travels as presence (an empty tuple) or absence.
    asked = (() if hidden.perturbed else None, () if head.perturbed else None)
    return tuple(results), (hidden.value, head.value, labels.value, results[1], lse, asked)


def _backward(options: _Options, residuals: tuple, cotangents: tuple[Any, ...]):
    hidden, head, labels, entropy, lse, (asked_hidden, asked_head) = residuals
    # Correctness, collision and the mean logit pass no gradient on.
    # Each part of the vocabulary may be told a part of them.
    vocabulary = options.vocabulary
    d_logp, d_entropy = (None if isinstance(g, SymbolicZero) else vocabulary.total(g) for g in cotangents[:2])
    weights = head.astype(hidden.dtype)

    def body(rows: Array, grads: _Gradients) -> _Gradients:
        h, y, _ = chunks.take_tokens(hidden, labels, rows)
        capped = chunks.logits_of(h, weights, softcap=options.softcap)
        logp_all = _cooled(capped, chunks.take_rows(lse, rows), options.temperature)
        d_logits = jnp.zeros_like(capped)
        if d_logp is not None:
            d_logits += _through_logp(chunks.take_rows(d_logp, rows), y, logp_all, vocabulary)
        if d_entropy is not None:
            d_logits += _through_entropy(chunks.take_rows(d_entropy, rows), chunks.take_rows(entropy, rows), logp_all)
        d_logits = chunks.softcap_backward(d_logits / options.temperature, capped, options.softcap)
        d_logits = d_logits.astype(hidden.dtype)
        return _Gradients(
            chunks.put_hidden_gradient(grads.hidden, rows, d_logits, weights),
            grads.head and grads.head.plus(d_logits, h),
        )

    init = _Gradients(
        None if asked_hidden is None else jnp.zeros_like(hidden),
        None if asked_head is None else chunks.HeadGradient.zero(head),
    )
    _, end = chunks.fold_trained(labels, options.chunk, body, init, vocabulary)
    return end.hidden, None if end.head is None else end.head.whole(head.dtype), None


_logps = jax.custom_vjp(_value, nondiff_argnums=(0,))
_logps.defvjp(_forward, _backward, symbolic_zeros=True)
# Outside a jit every call would otherwise compile its loop body anew.
_jitted = jax.jit(_logps, static_argnums=0)


def _cooled(logits: Array, top: Array, temperature: float) -> Array:
    """`(logits - top) / temperature`, at most 0; subtracted first, so that no rounding is divided by a temperature."""
    below = logits - top[:, None]
    return below if temperature == 1 else jnp.minimum(below / temperature, 0.0)


def _run(options: _Options, hidden: Array, head: Array, labels: Array) -> _PerToken:
    weights = head.astype(hidden.dtype)

    def body(rows: Array, carry: _PerToken) -> _PerToken:
        h, y, _ = chunks.take_tokens(hidden, labels, rows)
        warm = logits = chunks.logits_of(h, weights, softcap=options.softcap)
        top = None
        if options.temperature != 1:
            top = options.vocabulary.most(jnp.max(logits, axis=-1))
            logits = _cooled(logits, top, options.temperature)
        stats = chunks.statistics(logits, y, options.vocabulary)
        warm = warm / options.temperature
        lse = stats.lse if top is None else top + options.temperature * stats.lse
        return _PerToken(
            logp=chunks.put_rows(carry.logp, rows, stats.logp),
            entropy=_put(carry.entropy, rows, lambda: stats.entropy),
            correct=_put(carry.correct, rows, lambda: stats.correct),
            collision=_put(carry.collision, rows, lambda: chunks.collision(logits, stats.lse, options.vocabulary)),
            mean_logit=_put(carry.mean_logit, rows, lambda: chunks.mean_logit(warm, options.vocabulary)),
            lse=chunks.put_rows(carry.lse, rows, lse),
        )

    zeros = jnp.zeros(labels.shape, jnp.float32)
    init = _PerToken(
        logp=zeros,
        entropy=zeros if options.with_entropy else None,
        correct=zeros if options.with_correct else None,
        collision=zeros if options.with_collision else None,
        mean_logit=zeros if options.with_mean_logit else None,
        lse=zeros,
    )
    return chunks.fold_trained(labels, options.chunk, body, init, options.vocabulary)[1]


def _put(values: Array | None, rows: Array, new: Callable[[], Array]) -> Array | None:
    return None if values is None else chunks.put_rows(values, rows, new())


def _through_logp(d_logp: Array, labels: Array, logp_all: Array, vocabulary: chunks.Vocabulary) -> Array:
    target = jnp.where(chunks.is_label(labels, logp_all.shape, vocabulary), 1.0, 0.0)
    return d_logp[:, None] * (target - jnp.exp(logp_all))


def _through_entropy(d_entropy: Array, entropy: Array, logp_all: Array) -> Array:
    """With H = -sum p log p: dH/dz_j = -p_j (log p_j + H)."""
    return -d_entropy[:, None] * jnp.exp(logp_all) * (logp_all + entropy[:, None])
