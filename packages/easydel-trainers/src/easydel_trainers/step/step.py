"""One compiled optimizer step.

The loss of a step is a sum of terms, each `sum over the micro-batches / sum of their weights`. The weights (trained
tokens, pairs, …) are known from the batch alone, so they are summed over the *whole* step first, and however the rows
are split, loss and gradient are those of one big batch.

Some losses compare the rows of a step with each other (they sort them, or subtract their mean). Split over
micro-batches they need the scores of all rows before the gradient of any: a first pass computes only scores, the
loss's gradient with respect to the scores is taken once, and a second pass carries it back to the parameters, one
micro-batch after the other (Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup",
2021, https://arxiv.org/abs/2101.06983).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from easydel_models.adapters.lora import combine_params
from easydel_models.random_keys import key_of_seed
from jax.sharding import Mesh

from easydel_trainers.step.compiled import Compiled
from easydel_trainers.step.device_mesh import everywhere, placements, results_everywhere
from easydel_trainers.step.metrics import Ratios, Terms, add_ratios, loss_ratios
from easydel_trainers.step.objective import Batch, Extras, Objective, Params, ScoredObjective, Scores
from easydel_trainers.step.router import ROUTER, router_metric, with_expert_weights

ROUNDED_AWAY = "updates_rounded_away"


class TrainState(NamedTuple):
    """All that a step changes."""

    params: Params
    opt_state: optax.OptState
    step: jax.Array
    """Steps taken, int32 scalar."""
    extras: Extras = ()


class StepResult(NamedTuple):
    """What a step tells, as device arrays that nobody waits for."""

    ratios: Ratios
    grad_norm: jax.Array
    learning_rate: jax.Array


def make_train_step(
    objective: Objective | ScoredObjective,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    *,
    trained: Callable[[Params], Params] = lambda grads: grads,
    frozen: Params | None = None,
    dropout_seed: int | None = None,
    mesh: Mesh | None = None,
) -> Compiled:
    """Returns a function `(TrainState, batch [micro-batches, bins, length]) -> (TrainState, StepResult)`.

    The state is donated: its arrays must not be used again. A step without any trained token leaves a loss of 0
    and zero gradients.

    Args:
        objective: what is minimised.
        optimizer: what makes updates of gradients.
        schedule: learning rate of a step, for the record.
        trained: zeroes the gradients of parameters that are not trained, which then count in no norm and are not
            even computed.
        frozen: parameters that the objective needs beside those in the state, such as the base model of adapters.
            They are an input of the step, neither differentiated nor given away.
        dropout_seed: gives every micro-batch a `dropout_key`, which depends on it, the step and the number of the
            micro-batch alone. `None` = nothing is dropped, and no noise is added.
        mesh: the devices that share the step; the new state lies where the old one lay. `None` = one device.
    """

    def train_step(state: TrainState, batch: Batch, frozen: Params) -> tuple[TrainState, StepResult]:
        compiled.compilations += 1
        if dropout_seed is not None:
            key = jax.random.fold_in(key_of_seed(dropout_seed), state.step)
            batch = {**batch, "dropout_key": jax.random.split(key, _micro_batches(batch))}
        grads, ratios, extras = _gradient(objective, state, frozen, batch)
        grads = _float32(trained(grads))
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ratios = {**ratios, **_rounded_away(state.params, updates, params)}
        result = StepResult(ratios, optax.tree.norm(grads), jnp.asarray(schedule(state.step)))
        return TrainState(params, opt_state, state.step + 1, extras), result

    program: Callable[..., Any] | None = None

    def run(state: TrainState, batch: Batch) -> tuple[TrainState, StepResult]:
        nonlocal program
        if program is None:
            where = None if mesh is None else (placements(state), everywhere(mesh))
            program = jax.jit(train_step, donate_argnums=0, out_shardings=where)
        return program(state, batch, frozen or {})

    compiled = Compiled(run, mesh=mesh)
    return compiled


def make_eval_step(
    objective: Objective | ScoredObjective, *, frozen: Params | None = None, mesh: Mesh | None = None
) -> Compiled:
    """Returns a function `(params, batch [1, bins, length], extras) -> Ratios`; the others as for `make_train_step`."""

    def eval_step(trainable: Params, batch: Batch, extras: Extras, frozen: Params) -> Ratios:
        compiled.compilations += 1
        params = combine_params(trainable, frozen)
        if isinstance(objective, ScoredObjective):
            batch = objective.prepare(params, batch)
        micro_batch = _first(batch)
        sums, ratios, _ = _loss_of(objective, params, micro_batch, extras, training=False)
        weights = {**objective.weights(micro_batch), ROUTER: jnp.float32(1)}
        return {**_losses(objective, params, sums, weights), **ratios}

    jitted = jax.jit(eval_step, **results_everywhere(mesh))
    compiled = Compiled(lambda params, batch, extras=(): jitted(params, batch, extras, frozen or {}), mesh=mesh)
    return compiled


def _gradient(objective: Any, state: TrainState, frozen: Params, batch: Batch) -> tuple[Params, Ratios, Extras]:
    if isinstance(objective, ScoredObjective):
        batch = objective.prepare(jax.lax.stop_gradient(combine_params(state.params, frozen)), batch)
    batch = with_expert_weights(objective, combine_params(state.params, frozen), batch)
    totals = {**jax.tree.map(jnp.sum, jax.vmap(objective.weights)(batch)), ROUTER: jnp.float32(1)}
    if isinstance(objective, ScoredObjective) and objective.coupled and _micro_batches(batch) > 1:
        return _two_passes(objective, state, frozen, batch, totals)
    return _accumulated(objective, state, frozen, batch, totals)


def _accumulated(
    objective: Any, state: TrainState, frozen: Params, batch: Batch, totals: Terms
) -> tuple[Params, Ratios, Extras]:
    """Returns the gradient and metrics of all micro-batches, one after the other."""
    share = jnp.float32(1 / _micro_batches(batch))

    def scaled_loss(trainable: Params, micro_batch: Batch) -> tuple[jax.Array, tuple[Ratios, Extras]]:
        params = combine_params(trainable, frozen)
        sums, ratios, extras = _loss_of(objective, params, micro_batch, state.extras, training=True)
        shown = _losses(objective, params, sums, {**objective.weights(micro_batch), ROUTER: share})
        return _total(sums, totals), ({**shown, **ratios}, extras)

    gradient = jax.grad(scaled_loss, has_aux=True)
    if _micro_batches(batch) == 1:
        grads, (ratios, extras) = gradient(state.params, _first(batch))
        return grads, ratios, extras

    def add(carry: tuple[Params, Ratios], micro_batch: Batch) -> tuple[tuple[Params, Ratios], None]:
        grads, (ratios, _) = gradient(state.params, micro_batch)
        return (jax.tree.map(jnp.add, carry[0], _float32(grads)), add_ratios(carry[1], ratios)), None

    grads, (ratios, _) = jax.eval_shape(lambda *given: _with_float32(gradient(*given)), state.params, _first(batch))
    (grads, ratios), _ = jax.lax.scan(add, _zeros((grads, ratios)), batch)
    return grads, ratios, state.extras


def _two_passes(
    objective: ScoredObjective, state: TrainState, frozen: Params, batch: Batch, totals: Terms
) -> tuple[Params, Ratios, Extras]:
    """Returns scores of all rows, the loss's gradient by the scores, and that carried back to the parameters."""

    def scores_of(trainable: Params, micro_batch: Batch) -> Scores:
        return objective.scores(combine_params(trainable, frozen), micro_batch)

    def step_loss(scores: Scores) -> tuple[jax.Array, tuple[Ratios, Extras]]:
        rows = jax.tree.map(_joined, batch["rows"])
        router = {name: part.sum() for name, part in scores.items() if name == ROUTER}
        joined = {name: _joined(array) for name, array in scores.items() if name != ROUTER}
        sums, ratios, extras = objective.score_loss(joined, rows, state.extras, training=True)
        sums = {**sums, **router}
        shown = _losses(objective, combine_params(state.params, frozen), sums, totals)
        return _total(sums, totals), ({**shown, **ratios}, extras)

    def carry_back(grads: Params, part: tuple[Batch, Scores]) -> tuple[Params, None]:
        micro_batch, by_scores = part
        pull_back = jax.vjp(lambda params: scores_of(params, micro_batch), state.params)[1]
        return jax.tree.map(jnp.add, grads, _float32(pull_back(by_scores)[0])), None

    scores = jax.lax.map(lambda micro_batch: scores_of(state.params, micro_batch), batch)
    by_scores, (ratios, extras) = jax.grad(step_loss, has_aux=True)(scores)
    grads, _ = jax.lax.scan(carry_back, _float32(_zeros(state.params)), (batch, by_scores))
    return grads, ratios, extras


def _loss_of(
    objective: Any, params: Params, micro_batch: Batch, extras: Extras, *, training: bool
) -> tuple[Terms, Ratios, Extras]:
    if isinstance(objective, ScoredObjective):
        scores = objective.scores(params, micro_batch)
        router = {name: scores.pop(name).sum() for name in (ROUTER,) if name in scores}
        sums, ratios, extras = objective.score_loss(scores, micro_batch["rows"], extras, training=training)
        return {**sums, **router}, ratios, extras
    return *objective.loss(params, micro_batch), extras


def _losses(objective: Any, params: Params, sums: Terms, weights: Terms) -> Ratios:
    return {**loss_ratios(sums, weights), **router_metric(objective, params, sums, weights)}


def _total(sums: Terms, totals: Terms) -> jax.Array:
    return sum((sums[name] / jnp.where(totals[name] > 0, totals[name], 1) for name in sums), jnp.float32(0))


def _float32(tree: Any) -> Any:
    """Returns gradients as they are added up."""
    # The sum of many in bfloat16 would lose the small ones.
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree)


def _with_float32(found: tuple[Params, Any]) -> tuple[Params, Any]:
    return _float32(found[0]), found[1]


def _rounded_away(before: Params, updates: Params, after: Params) -> Ratios:
    """Returns the share of the updates that a parameter's type is too coarse for; of float32 nothing is said."""
    kept = moved = jnp.float32(0)
    triples = zip(*map(jax.tree.leaves, (before, updates, after)), strict=True)
    coarse = [triple for triple in triples if triple[0].dtype != jnp.float32]
    for old, update, new in coarse:
        wanted = update != 0
        moved += wanted.sum(dtype=jnp.float32)
        kept += (wanted & (new == old)).sum(dtype=jnp.float32)
    return {ROUNDED_AWAY: (kept, moved)} if coarse else {}


def _micro_batches(batch: Batch) -> int:
    return batch["input_ids"].shape[0]


def _first(batch: Batch) -> Batch:
    return jax.tree.map(lambda array: array[0], batch)


def _zeros(shapes: Any) -> Any:
    return jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)


def _joined(array: jax.Array) -> jax.Array:
    """`[micro-batches, …, rows]` to `[…, micro-batches * rows]`."""
    moved = jnp.moveaxis(array, 0, -2)
    return moved.reshape(*moved.shape[:-2], -1)
