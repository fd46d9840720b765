"""Cross entropy of a linear head, summed, with its gradients computed in the forward pass.

A scalar loss whose weights are known in advance can turn a chunk's logits into gradients at once: three
matrix products instead of the four of a recomputing backward pass, and every logit is touched while it is in
reach.

Axes: N tokens, D model width, V vocabulary, C tokens of one chunk.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import CustomVJPPrimal, SymbolicZero
from jaxtyping import Array, Float, Int

from easydel_models.lm_loss import chunks as chunks
from easydel_models.lm_loss.head import LinearHead, parts_of
from easydel_models.lm_loss.sharding import over_tokens

LossType = Literal["nll", "dft"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, slots=True)
class CEStats:
    """What `fused_linear_ce` counts along the way: sums over the trained tokens."""

    count: Int[Array, ""]
    """Trained tokens."""
    correct: Int[Array, ""]
    """Trained tokens whose label has the largest logit (a tie counts as correct)."""
    entropy_sum: Float[Array, ""]
    """Entropies of the predicted distributions, in nats."""


def fused_linear_ce(
    hidden: Float[Array, "*N D"],
    head: Float[Array, "V D"] | LinearHead,
    labels: Int[Array, "*N"],
    *,
    loss_type: LossType = "nll",
    label_smoothing: float = 0.0,
    softcap: float | None = None,
    chunk: int = 512,
) -> tuple[Float[Array, ""], CEStats]:
    """Returns the sum of the cross entropy of `softmax(hidden @ head.T)` over the trained tokens.

    With lp the log-probability of a token's label:

    - `nll`: `(1 - label_smoothing) * -lp + label_smoothing * mean over the vocabulary of -log p`
    - `dft`: `-stop_gradient(exp(lp)) * lp` (dynamic fine-tuning)

    Differentiable with respect to `hidden` and `head` only, and once (no second derivatives). The gradient of
    a frozen head is not computed, and without differentiation none is. The products run in the dtype of
    `hidden`; sums, softmax and the head's gradient are kept in float32.

    Args:
        hidden: last hidden states of every position that predicts: one row each, or [rows, tokens, D].
        head: output embedding, one row per word; or a `LinearHead`, which brings its soft cap along.
        labels: the word each position has to predict (shifted by the caller), -100 where it is not trained.
            Any other label outside 0..V-1 makes the loss NaN.
        loss_type: see above.
        label_smoothing: in [0, 1); weight of the uniform distribution, only with `nll`.
        softcap: `c` of `c * tanh(logits / c)`; None = no cap.
        chunk: tokens whose logits exist at one time. Beside the gradients themselves it costs 8 bytes per
            chunk token and word (measured on CPU; 4 when the head is frozen or nothing is differentiated).

    Returns:
        The loss sum in float32 (0, with zero gradients, when nothing is trained) and the counts.

    Raises:
        ValueError: shapes do not fit, or an option is out of range.

    References:
        Wu et al., On the Generalization of SFT: A Reinforcement Learning Perspective with Reward
        Rectification, 2025, https://arxiv.org/abs/2508.05629 (dft).
    """
    head, softcap = parts_of(head, softcap)
    chunks.check_shapes(hidden, head, labels, chunk)
    if loss_type not in ("nll", "dft"):
        raise ValueError(f"`loss_type` must be 'nll' or 'dft', got {loss_type!r}")
    if not 0.0 <= label_smoothing < 1.0:
        raise ValueError(f"`label_smoothing` must be in [0, 1), got {label_smoothing}")
    if label_smoothing and loss_type != "nll":
        raise ValueError(f"`label_smoothing` belongs to loss_type 'nll'; set it to 0 with {loss_type!r}")

    def run(hidden: Array, head: Array, labels: Array, vocabulary: chunks.Vocabulary) -> _Result:
        options = _Options(loss_type, label_smoothing, softcap, min(chunk, labels.shape[0]), vocabulary)
        return _jitted(options, hidden, head, labels)

    loss, stats = over_tokens(run, hidden, head, labels, summed=True)
    return loss, CEStats(*stats)


class _Options(NamedTuple):
    loss_type: LossType
    label_smoothing: float
    softcap: float | None
    chunk: int
    vocabulary: chunks.Vocabulary


class _Carry(NamedTuple):
    loss: Array
    correct: Array
    entropy: Array
    d_hidden: Array | None
    """None = not asked for."""
    d_head: chunks.HeadGradient | None


_Result = tuple[Array, tuple[Array, Array, Array]]
"""The loss, and what `CEStats` is made of."""


def _value(options: _Options, hidden: Array, head: Array, labels: Array) -> _Result:
    count, end = _run(options, hidden, head, labels, hidden_grad=False, head_grad=False)
    return end.loss, (count, end.correct, end.entropy)


def _forward(options: _Options, hidden: CustomVJPPrimal, head: CustomVJPPrimal, labels: CustomVJPPrimal):
    asked = {"hidden_grad": hidden.perturbed, "head_grad": head.perturbed}
    count, end = _run(options, hidden.value, head.value, labels.value, **asked)
    d_head = None if end.d_head is None else end.d_head.whole(head.value.dtype)
    return (end.loss, (count, end.correct, end.entropy)), (end.d_hidden, d_head)


def _backward(options: _Options, gradients: tuple[Array | None, Array | None], cotangents: tuple[Any, Any]):
    # The counts carry no gradient: they are measurements, not part of the objective.
    scale = cotangents[0]
    if isinstance(scale, SymbolicZero):
        return None, None, None
    # Each part of the vocabulary may be told a part of the cotangent.
    scale = options.vocabulary.total(scale)
    d_hidden, d_head = (None if g is None else (scale * g.astype(jnp.float32)).astype(g.dtype) for g in gradients)
    return d_hidden, d_head, None


_fused = jax.custom_vjp(_value, nondiff_argnums=(0,))
_fused.defvjp(_forward, _backward, symbolic_zeros=True)
# Outside a jit every call would otherwise compile its loop body anew.
_jitted = jax.jit(_fused, static_argnums=0)


def _run(
    options: _Options, hidden: Array, head: Array, labels: Array, *, hidden_grad: bool, head_grad: bool
) -> tuple[Array, _Carry]:
    weights = head.astype(hidden.dtype)

    def body(rows: Array, carry: _Carry) -> _Carry:
        h, y, real = chunks.take_tokens(hidden, labels, rows)
        logits = chunks.logits_of(h, weights, softcap=options.softcap)
        stats = chunks.statistics(logits, y, options.vocabulary)
        loss, scale = _loss(options, stats, logits)
        carry = carry._replace(
            loss=carry.loss + jnp.sum(jnp.where(real, loss, 0.0)),
            correct=carry.correct + jnp.sum(real & stats.correct, dtype=jnp.int32),
            entropy=carry.entropy + jnp.sum(jnp.where(real, stats.entropy, 0.0)),
        )
        if not (hidden_grad or head_grad):
            return carry
        d_logits = jnp.exp(logits - stats.lse[:, None]) - _target(options, y, logits.shape)
        d_logits = d_logits * jnp.where(real, scale, 0.0)[:, None]
        d_logits = chunks.softcap_backward(d_logits, logits, options.softcap).astype(hidden.dtype)
        return carry._replace(
            d_hidden=chunks.put_hidden_gradient(carry.d_hidden, rows, d_logits, weights),
            d_head=carry.d_head and carry.d_head.plus(d_logits, h),
        )

    zero = jnp.zeros((), jnp.float32)
    d_hidden = jnp.zeros_like(hidden) if hidden_grad else None
    d_head = chunks.HeadGradient.zero(head) if head_grad else None
    init = _Carry(zero, jnp.zeros((), jnp.int32), zero, d_hidden, d_head)
    return chunks.fold_trained(labels, options.chunk, body, init, options.vocabulary)


def _loss(options: _Options, stats: chunks.Statistics, logits: Array) -> tuple[Array, Array]:
    """Returns the loss of each token and the factor of its logit gradient `p - target`."""
    if options.loss_type == "dft":
        weight = jnp.exp(stats.logp)
        return -weight * stats.logp, weight
    loss = -stats.logp
    if eps := options.label_smoothing:
        words = options.vocabulary.size(logits.shape[-1])
        mean = options.vocabulary.total(jnp.sum(logits, axis=-1)) / words
        loss = (1.0 - eps) * loss + eps * (stats.lse - mean)
    return loss, jnp.ones_like(loss)


def _target(options: _Options, labels: Array, shape: tuple[int, ...]) -> Array:
    eps = options.label_smoothing
    of_label = chunks.is_label(labels, shape, options.vocabulary)
    return jnp.where(of_label, 1.0 - eps, 0.0) + eps / options.vocabulary.size(shape[-1])
