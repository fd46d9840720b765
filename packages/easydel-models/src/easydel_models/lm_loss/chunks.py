"""The chunk loop over trained tokens, and a linear head's forward and backward pass on one chunk.

Shared by `linear_ce` and `label_logps`. A chunk is a vector of row numbers; numbers past the last token (= N)
fill the last chunk up: gathers give zeros for them and scatters drop them.

Axes: N tokens, D model width, V words (of the vocabulary, or of the part of it that a device holds), C tokens of one
chunk.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from easydel_models.products import row_by_row, wide_product, wide_product_of_transposed

IGNORE_INDEX = -100
"""The label of a token that is not trained."""

_Carry = TypeVar("_Carry")


class Vocabulary(NamedTuple):
    """Which part of the vocabulary this device holds, and how to come to sums over all of it."""

    axis: str | None = None
    """Mesh axis that cuts it; None = it is whole."""
    everywhere: tuple[str, ...] = ()
    """All mesh axes, where it is cut: devices that wait for each other must go through equally many chunks."""

    def first(self, words: int) -> Array:
        """Returns the number of the first word held here; ``words`` are."""
        return jnp.int32(0) if self.axis is None else lax.axis_index(self.axis) * jnp.int32(words)

    def size(self, words: int) -> int:
        """Returns words of the whole vocabulary."""
        return words if self.axis is None else words * lax.axis_size(self.axis)

    def total(self, value: Any) -> Any:
        """Returns the sum over the parts, of one array or several."""
        return value if self.axis is None else lax.psum(value, self.axis)

    def most(self, value: Array) -> Array:
        """Returns the maximum over the parts."""
        return value if self.axis is None else lax.pmax(value, self.axis)


WHOLE = Vocabulary()


class Statistics(NamedTuple):
    """Per token of a chunk."""

    lse: Float[Array, " C"]
    """log sum exp of the logits."""
    logp: Float[Array, " C"]
    """Log-probability of the label; NaN for a label outside the vocabulary."""
    entropy: Float[Array, " C"]
    correct: Bool[Array, " C"]
    """No logit is larger than the label's."""


def check_shapes(hidden: Array, head: Array, labels: Array, chunk: int) -> None:
    """Raises ValueError unless hidden [*N, D], head [V, D], labels [*N] with N > 0 and chunk > 0."""
    if hidden.ndim not in (2, 3) or head.ndim != 2 or labels.ndim != hidden.ndim - 1:
        raise ValueError(
            "expected hidden [tokens, dim] or [rows, tokens, dim], head [vocab, dim] and labels of the tokens, "
            f"got {hidden.shape}, {head.shape} and {labels.shape}"
        )
    if hidden.shape[-1] != head.shape[1] or hidden.shape[:-1] != labels.shape:
        raise ValueError(
            f"hidden {hidden.shape} must have the width of head {head.shape} and the tokens of labels {labels.shape}"
        )
    if labels.size == 0:
        raise ValueError("no tokens: hidden and labels are empty along their first axis")
    if chunk < 1:
        raise ValueError(f"`chunk` must be >= 1 token, got {chunk}")


def fold_trained(
    labels: Int[Array, " N"],
    chunk: int,
    body: Callable[[Array, _Carry], _Carry],
    init: _Carry,
    vocabulary: Vocabulary = WHOLE,
) -> tuple[Int[Array, ""], _Carry]:
    """Folds `body(rows, carry)` over the trained tokens' row numbers; returns their count too."""
    n = labels.shape[0]
    trained = labels != IGNORE_INDEX
    count = jnp.sum(trained, dtype=jnp.int32)
    (rows,) = jnp.nonzero(trained, size=-(-n // chunk) * chunk, fill_value=n)

    def step(i: Array, carry: _Carry) -> _Carry:
        return body(lax.dynamic_slice(rows, (i * chunk,), (chunk,)), carry)

    most = count if vocabulary.axis is None else lax.pmax(count, vocabulary.everywhere)
    return count, lax.fori_loop(0, (most + chunk - 1) // chunk, step, init)


def take_tokens(hidden: Array, labels: Array, rows: Array) -> tuple[Array, Array, Bool[Array, " C"]]:
    """Hidden states and labels of the rows, and which rows are tokens rather than filling."""
    return take_rows(hidden, rows), take_rows(labels, rows), rows < labels.shape[0]


def take_rows(values: Array, rows: Int[Array, " C"]) -> Array:
    """`values[rows]`, zero for filling rows."""
    return values.at[rows].get(mode="fill", fill_value=0)


def put_rows(values: Array, rows: Int[Array, " C"], new: Array) -> Array:
    """`values` with `new` at the rows; filling rows are dropped."""
    return values.at[rows].set(new.astype(values.dtype), mode="drop")


def logits_of(h: Float[Array, "C D"], weights: Float[Array, "V D"], *, softcap: float | None) -> Float[Array, "C V"]:
    """Soft-capped logits, accumulated in float32."""
    return softcapped(wide_product(h, weights, transposed_right=True), softcap)


def softcapped(logits: Float[Array, "..."], softcap: float | None) -> Float[Array, "..."]:
    """`c tanh(logits / c)`; None = no cap.

    References: Gemma Team, Gemma 2, 2024, https://arxiv.org/abs/2408.00118, section 2.
    """
    return logits if softcap is None else softcap * jnp.tanh(logits / softcap)


def softcap_backward(d_capped: Array, capped: Array, softcap: float | None) -> Array:
    """Cotangent of the raw logits from that of the capped: d/dx c tanh(x/c) = 1 - (capped/c)^2."""
    return d_capped if softcap is None else d_capped * (1.0 - jnp.square(capped / softcap))


def statistics(logits: Float[Array, "C V"], labels: Int[Array, " C"], vocabulary: Vocabulary = WHOLE) -> Statistics:
    """Returns what the losses need to know of a chunk's logits, in two passes over them."""
    top = vocabulary.most(jnp.max(logits, axis=-1))
    weight = jnp.exp(logits - top[:, None])
    # Compared out, not gathered, so that a vocabulary sharded over devices needs only a sum.
    label_term = jnp.where(is_label(labels, logits.shape, vocabulary), logits, 0.0)
    total, weighted, label_logit = vocabulary.total(_vocab_sums(weight, weight * logits, label_term))
    lse = top + jnp.log(total)
    known = (labels >= 0) & (labels < vocabulary.size(logits.shape[-1]))
    label_logit = jnp.where(known, label_logit, jnp.nan)
    return Statistics(lse, label_logit - lse, lse - weighted / total, label_logit >= top)


def collision(
    logits: Float[Array, "C V"], lse: Float[Array, " C"], vocabulary: Vocabulary = WHOLE
) -> Float[Array, " C"]:
    """Returns the logarithm of sum_v p_v^2 of every token."""
    return jnp.log(vocabulary.total(jnp.sum(jnp.exp(2.0 * (logits - lse[:, None])), axis=-1)))


def mean_logit(logits: Float[Array, "C V"], vocabulary: Vocabulary = WHOLE) -> Float[Array, " C"]:
    """Returns the mean over the vocabulary of every token's logits."""
    return vocabulary.total(jnp.sum(logits, axis=-1)) / vocabulary.size(logits.shape[-1])


def is_label(labels: Int[Array, " C"], shape: tuple[int, ...], vocabulary: Vocabulary = WHOLE) -> Bool[Array, "C V"]:
    """One-hot labels as booleans."""
    held_here = labels - vocabulary.first(shape[-1]).astype(labels.dtype)
    return lax.broadcasted_iota(labels.dtype, shape, 1) == held_here[:, None]


def put_hidden_gradient(
    d_hidden: Array | None,
    rows: Int[Array, " C"],
    d_logits: Float[Array, "C V"],
    weights: Float[Array, "V D"],
) -> Array | None:
    """Writes the chunk's `d_logits @ weights`; None stays None."""
    return None if d_hidden is None else put_rows(d_hidden, rows, wide_product(d_logits, weights))


class HeadGradient(NamedTuple):
    """The gradient of a head while it is added up, chunk by chunk."""

    # Transposed: so a chunk's hidden states are turned over, and not its logits, which are V / D times as many.
    transposed: Float[Array, "D V"]

    @classmethod
    def zero(cls, head: Float[Array, "V D"]) -> "HeadGradient":
        """Returns that of no chunk."""
        return cls(jnp.zeros(head.shape[::-1], jnp.float32))

    def plus(self, d_logits: Float[Array, "C V"], h: Float[Array, "C D"]) -> "HeadGradient":
        """Returns it with the chunk's `d_logits.T @ h` added."""
        return HeadGradient(self.transposed + wide_product_of_transposed(h, d_logits))

    def whole(self, dtype: Any) -> Float[Array, "V D"]:
        """Returns the gradient."""
        return row_by_row(self.transposed).T.astype(dtype)


def _vocab_sums(*terms: Float[Array, "C V"]) -> list[Float[Array, " C"]]:
    """Returns the sums over the vocabulary, made in one pass: exponentials that terms share are computed once."""
    # The pass adds one number after the other; in blocks the round-off stays that of a pairwise sum (measured for
    # V = 49152 on CPU: 1e-6 instead of 5e-5, and a third of the time of separate sums).
    vocab = terms[0].shape[-1]
    block = math.gcd(vocab, 128)
    if block < 16:  # Blocks of a few words would write every term to memory.
        return [jnp.sum(term, axis=-1) for term in terms]
    blocks = [term.reshape(-1, vocab // block, block) for term in terms]
    zeros = [jnp.zeros((), jnp.float32)] * len(terms)
    sums = lax.reduce(blocks, zeros, lambda a, b: [x + y for x, y in zip(a, b, strict=True)], (2,))
    return [jnp.sum(part, axis=-1) for part in sums]
