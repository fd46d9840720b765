"""The compiled loop: up to a block of steps for every row, with nothing but a few numbers a row going in and out.

Axes: B rows, V vocabulary, S the steps of a block.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from easydel_models.config import DecoderConfig
from easydel_models.generation.decode_step import decode_step
from easydel_models.generation.logits_processing import hold_back, penalise_repetition
from easydel_models.generation.sampling import Sampling, choose, uniforms_for
from easydel_models.generation.slot_cache import Store, recent_store
from easydel_models.generation.weights import DecodeWeights


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BlockPlan:
    """What a block is compiled for, beside shapes."""

    config: DecoderConfig
    block_size: int
    sampling: Sampling | None
    """None = greedy."""
    repetition_penalty: float
    """1 = none."""
    holds_back: bool
    """Whether stop tokens are forbidden for a while."""


class Rows(NamedTuple):
    """Where every row stands before a block."""

    last: Int[Array, " B"]
    """The newest token, not in the cache yet: at first the prompt's last one."""
    lengths: Int[Array, " B"]
    """Tokens in the cache."""
    counts: Int[Array, " B"]
    """Tokens generated."""
    indices: Int[Array, " B"]
    """Of the completion among all: chooses its random numbers."""
    done: Bool[Array, " B"]
    """Rows to take no notice of."""
    present: Bool[Array, "B V"] | None
    """Tokens that a row has; None = nobody asks."""


class Request(NamedTuple):
    """What may change from block to block without a new compilation."""

    key: Key[Array, ""]
    stop_ids: Int[Array, " stops"]
    """Those below 0 are none."""
    min_new_tokens: Int[Array, ""]
    max_new_tokens: Int[Array, ""]
    steps: Int[Array, ""]
    """Most steps to take, at most the block's size."""
    enough_done: Int[Array, ""]
    """Stop as soon as so many rows are done."""


class BlockResult(NamedTuple):
    """What a block did; of a row only the first ``new`` columns mean anything."""

    recent: Store
    """Keys and values of the tokens that were read, for `slot_cache.settle`."""
    present: Bool[Array, "B V"] | None
    tokens: Int[Array, "B S"]
    logps: Float[Array, "B S"]
    new: Int[Array, " B"]
    """Tokens each row gained."""
    steps: Int[Array, ""]


class _Carry(NamedTuple):
    step: Int[Array, ""]
    recent: Store
    rows: Rows
    tokens: Int[Array, "B S"]
    logps: Float[Array, "B S"]


@functools.partial(jax.jit, static_argnames="plan")
def decode_block(plan: BlockPlan, weights: DecodeWeights, store: Store, rows: Rows, request: Request) -> BlockResult:
    """Takes steps until `Request.steps`, or until `Request.enough_done` rows are done."""

    def unfinished(carry: _Carry) -> Array:
        return (carry.step < request.steps) & (carry.rows.done.sum(dtype=jnp.int32) < request.enough_done)

    def advance(carry: _Carry) -> _Carry:
        step, recent, before, tokens, logps = carry
        logits, recent = decode_step(plan.config, weights, before.last, store, recent, lengths=rows.lengths, step=step)
        token, logp = _next_tokens(plan, logits, before, request)
        counts = before.counts + (~before.done).astype(jnp.int32)
        done = before.done | jnp.isin(token, request.stop_ids) | (counts >= request.max_new_tokens)
        after = before._replace(last=token, counts=counts, done=done, present=_with_token(before.present, token))
        return _Carry(step + 1, recent, after, tokens.at[:, step].set(token), logps.at[:, step].set(logp))

    shape = (store.rows, plan.block_size)
    recent = recent_store(plan.config, store, plan.block_size, weights.head.dtype)
    start = _Carry(jnp.int32(0), recent, rows, jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.float32))
    end = jax.lax.while_loop(unfinished, advance, start)
    new = end.rows.counts - rows.counts
    return BlockResult(end.recent, end.rows.present, end.tokens, end.logps, new, end.step)


def _next_tokens(
    plan: BlockPlan, logits: Float[Array, "B V"], rows: Rows, request: Request
) -> tuple[Int[Array, " B"], Float[Array, " B"]]:
    processed = logits
    if rows.present is not None:
        processed = penalise_repetition(processed, rows.present, plan.repetition_penalty)
    if plan.holds_back:
        processed = hold_back(processed, request.stop_ids, rows.counts < request.min_new_tokens)
    return choose(logits, uniforms_for(request.key, rows.indices, rows.counts), plan.sampling, processed)


def _with_token(present: Bool[Array, "B V"] | None, tokens: Int[Array, " B"]) -> Bool[Array, "B V"] | None:
    if present is None:
        return None
    return present.at[jnp.arange(tokens.shape[0], dtype=jnp.int32), tokens].set(True)
