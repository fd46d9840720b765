"""Log-probabilities of given labels under a linear head, one per token, with a recomputing backward pass.

Losses over pairs or groups weigh tokens only after all log-probabilities are known, so gradients cannot be
formed in the forward pass. Kept per token are its log-normaliser and entropy; the backward pass rebuilds the
logits chunk by chunk.

Axes: N tokens, D model width, V vocabulary, C tokens of one chunk.
"""

from typing import Any, Literal, NamedTuple, overload

import jax
import jax.numpy as jnp
from jax.custom_derivatives import CustomVJPPrimal, SymbolicZero
from jaxtyping import Array, Float, Int

from easydel_models import head_chunks as chunks


@overload
def token_logps(
    hidden: Float[Array, "N D"],
    head: Float[Array, "V D"],
    labels: Int[Array, " N"],
    *,
    temperature: float = ...,
    softcap: float | None = ...,
    with_entropy: Literal[False] = ...,
    chunk: int = ...,
) -> Float[Array, " N"]: ...
@overload
def token_logps(
    hidden: Float[Array, "N D"],
    head: Float[Array, "V D"],
    labels: Int[Array, " N"],
    *,
    temperature: float = ...,
    softcap: float | None = ...,
    with_entropy: Literal[True],
    chunk: int = ...,
) -> tuple[Float[Array, " N"], Float[Array, " N"]]: ...
def token_logps(
    hidden: Float[Array, "N D"],
    head: Float[Array, "V D"],
    labels: Int[Array, " N"],
    *,
    temperature: float = 1.0,
    softcap: float | None = None,
    with_entropy: bool = False,
    chunk: int = 512,
) -> Float[Array, " N"] | tuple[Float[Array, " N"], Float[Array, " N"]]:
    """Log-probability of every label under `softmax(softcap(hidden @ head.T) / temperature)`.

    Differentiable (once) with respect to `hidden` and `head`, through the log-probabilities and the
    entropies. The gradient of a frozen head is not computed. The products run in the dtype of `hidden`;
    softmax, results and the head's gradient are kept in float32.

    Args:
        hidden: last hidden states, one row per position that predicts.
        head: output embedding, one row per word.
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
    chunks.check_shapes(hidden, head, labels, chunk)
    if temperature <= 0:
        raise ValueError(f"`temperature` must be > 0, got {temperature}")
    options = _Options(temperature, softcap, with_entropy, min(chunk, labels.shape[0]))
    logps, entropy = _jitted(options, hidden, head, labels)
    return logps if entropy is None else (logps, entropy)


class _Options(NamedTuple):
    temperature: float
    softcap: float | None
    with_entropy: bool
    chunk: int


class _PerToken(NamedTuple):
    logp: Array
    entropy: Array | None
    lse: Array


class _Gradients(NamedTuple):
    """None = not asked for."""

    hidden: Array | None
    head: Array | None


def _value(options: _Options, hidden: Array, head: Array, labels: Array) -> tuple[Array, Array | None]:
    return _run(options, hidden, head, labels)[:2]


def _forward(options: _Options, hidden: CustomVJPPrimal, head: CustomVJPPrimal, labels: CustomVJPPrimal):
    logp, entropy, lse = _run(options, hidden.value, head.value, labels.value)
    # Residuals are arrays only: what is asked for travels as presence (an empty tuple) or absence.
    asked = (() if hidden.perturbed else None, () if head.perturbed else None)
    return (logp, entropy), (hidden.value, head.value, labels.value, entropy, lse, asked)


def _backward(options: _Options, residuals: tuple, cotangents: tuple[Any, Any]):
    hidden, head, labels, entropy, lse, (asked_hidden, asked_head) = residuals
    d_logp, d_entropy = (None if isinstance(g, SymbolicZero) else g for g in cotangents)
    weights = head.astype(hidden.dtype)

    def body(rows: Array, grads: _Gradients) -> _Gradients:
        h, y, _ = chunks.take_tokens(hidden, labels, rows)
        capped = chunks.logits_of(h, weights, softcap=options.softcap)
        logp_all = capped / options.temperature - chunks.take_rows(lse, rows)[:, None]
        d_logits = jnp.zeros_like(capped)
        if d_logp is not None:
            d_logits += _through_logp(chunks.take_rows(d_logp, rows), y, logp_all)
        if d_entropy is not None:
            d_logits += _through_entropy(chunks.take_rows(d_entropy, rows), chunks.take_rows(entropy, rows), logp_all)
        d_logits = chunks.softcap_backward(d_logits / options.temperature, capped, options.softcap)
        d_logits = d_logits.astype(hidden.dtype)
        return _Gradients(
            chunks.put_hidden_gradient(grads.hidden, rows, d_logits, weights),
            chunks.add_head_gradient(grads.head, d_logits, h),
        )

    init = _Gradients(
        None if asked_hidden is None else jnp.zeros_like(hidden),
        None if asked_head is None else jnp.zeros(head.shape, jnp.float32),
    )
    _, end = chunks.fold_trained(labels, options.chunk, body, init)
    return end.hidden, None if end.head is None else end.head.astype(head.dtype), None


_logps = jax.custom_vjp(_value, nondiff_argnums=(0,))
_logps.defvjp(_forward, _backward, symbolic_zeros=True)
# Outside a jit every call would otherwise compile its loop body anew.
_jitted = jax.jit(_logps, static_argnums=0)


def _run(options: _Options, hidden: Array, head: Array, labels: Array) -> _PerToken:
    weights = head.astype(hidden.dtype)

    def body(rows: Array, carry: _PerToken) -> _PerToken:
        h, y, _ = chunks.take_tokens(hidden, labels, rows)
        logits = chunks.logits_of(h, weights, softcap=options.softcap) / options.temperature
        stats = chunks.statistics(logits, y)
        return _PerToken(
            logp=chunks.put_rows(carry.logp, rows, stats.logp),
            entropy=None if carry.entropy is None else chunks.put_rows(carry.entropy, rows, stats.entropy),
            lse=chunks.put_rows(carry.lse, rows, stats.lse),
        )

    zeros = jnp.zeros(labels.shape, jnp.float32)
    init = _PerToken(zeros, zeros if options.with_entropy else None, zeros)
    return chunks.fold_trained(labels, options.chunk, body, init)[1]


def _through_logp(d_logp: Array, labels: Array, logp_all: Array) -> Array:
    target = jnp.where(chunks.is_label(labels, logp_all.shape), 1.0, 0.0)
    return d_logp[:, None] * (target - jnp.exp(logp_all))


def _through_entropy(d_entropy: Array, entropy: Array, logp_all: Array) -> Array:
    """With H = -sum p log p: dH/dz_j = -p_j (log p_j + H)."""
    return -d_entropy[:, None] * jnp.exp(logp_all) * (logp_all + entropy[:, None])
