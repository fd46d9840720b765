"""One compiled optimizer step.

The loss of a step is `sum of the micro-batches' loss sums / sum of their weights`: the weight (trained tokens,
pairs, …) is known from the batch alone, so it is summed over the *whole* step first, and however the rows are
split, loss and gradient are those of one big batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from easydel_trainers.metrics import Ratios, add_ratios

Params = Any
Batch = dict[str, jax.Array]


class Objective(Protocol):
    """What a trainer minimises."""

    def weight(self, batch: Batch) -> jax.Array:
        """What one micro-batch adds to the denominator of the step's loss: a scalar, without the model."""
        ...

    def loss(self, params: Params, batch: Batch) -> tuple[jax.Array, Ratios]:
        """Loss *sum* of one micro-batch `[lines, length]` and its metrics as (numerator, denominator)."""
        ...


class TrainState(NamedTuple):
    """All that a step changes."""

    params: Params
    opt_state: optax.OptState
    step: jax.Array
    """Steps taken, int32 scalar."""


class StepResult(NamedTuple):
    """What a step tells, as device arrays that nobody waits for."""

    ratios: Ratios
    grad_norm: jax.Array
    learning_rate: jax.Array


@dataclass(slots=True)
class Compiled:
    """A jitted function that counts its compilations (a jitted function is traced once for each shape)."""

    function: Callable[..., Any]
    compilations: int = 0

    def __call__(self, *args: Any) -> Any:
        """Run it."""
        return self.function(*args)


def make_train_step(
    objective: Objective, optimizer: optax.GradientTransformation, schedule: optax.Schedule
) -> Compiled:
    """A function `(TrainState, batch [micro-batches, lines, length]) -> (TrainState, StepResult)`.

    The state is donated: its arrays must not be used again. A step without any trained token leaves a loss of 0
    and zero gradients.
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, StepResult]:
        compiled.compilations += 1
        total = jnp.maximum(jax.vmap(objective.weight)(batch).sum(), 1)
        grads, ratios = _accumulated(objective, state.params, batch, total)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        result = StepResult(ratios, optax.tree.norm(grads), jnp.asarray(schedule(state.step)))
        return TrainState(params, opt_state, state.step + 1), result

    compiled = Compiled(jax.jit(train_step, donate_argnums=0))
    return compiled


def make_eval_step(objective: Objective) -> Compiled:
    """A function `(params, batch [1, lines, length]) -> Ratios`."""

    def eval_step(params: Params, batch: Batch) -> Ratios:
        compiled.compilations += 1
        micro_batch = {name: array[0] for name, array in batch.items()}
        loss_sum, ratios = objective.loss(params, micro_batch)
        return {"loss": (loss_sum, objective.weight(micro_batch)), **ratios}

    compiled = Compiled(jax.jit(eval_step))
    return compiled


def _accumulated(objective: Objective, params: Params, batch: Batch, total: jax.Array) -> tuple[Params, Ratios]:
    """Gradient and metrics of all micro-batches, one after the other."""

    def scaled_loss(params: Params, micro_batch: Batch) -> tuple[jax.Array, Ratios]:
        loss_sum, ratios = objective.loss(params, micro_batch)
        loss = loss_sum / total
        return loss, {"loss": (loss_sum, objective.weight(micro_batch).astype(jnp.float32)), **ratios}

    gradient = jax.grad(scaled_loss, has_aux=True)
    first = jax.tree.map(lambda array: array[0], batch)
    micro_batches = next(iter(batch.values())).shape[0]
    if micro_batches == 1:
        return gradient(params, first)

    def add(carry: tuple[Params, Ratios], micro_batch: Batch) -> tuple[tuple[Params, Ratios], None]:
        grads, ratios = gradient(params, micro_batch)
        return (jax.tree.map(jnp.add, carry[0], grads), add_ratios(carry[1], ratios)), None

    shapes = jax.eval_shape(gradient, params, first)
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
    return jax.lax.scan(add, zeros, batch)[0]
