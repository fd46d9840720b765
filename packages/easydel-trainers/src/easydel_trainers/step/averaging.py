"""Averages of the parameters over training, and which parameters stand for the model when it is judged or kept.

An average is held in float32 whatever the parameters are: in bfloat16 it would stand still, since it moves by less than
that type can tell.

Both kinds live in the optimizer's state, so checkpoints, donation and sharding cover them without a word here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class MovingAverageState(NamedTuple):
    """Beside the state of the rule that is averaged: the average."""

    rule: optax.OptState
    average: Any


def moving_average(rule: optax.GradientTransformation, *, decay: float) -> optax.GradientTransformation:
    r"""Keeps $a_{k+1} = d\,a_k + (1-d)\,\theta_{k+1}$ beside the parameters, with $a_0 = \theta_0$.

    Args:
        rule: what updates the parameters.
        decay: d, between 0 and 1.
    """

    def init(params: optax.Params) -> MovingAverageState:
        # A copy: the step donates both, and one buffer cannot be given away twice.
        return MovingAverageState(rule.init(params), jax.tree.map(lambda leaf: jnp.array(leaf, jnp.float32), params))

    def update(
        updates: optax.Updates, state: MovingAverageState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, MovingAverageState]:
        if params is None:
            raise ValueError("an average is of parameters: give them to update()")
        updates, inner = rule.update(updates, state.rule, params)
        new = optax.apply_updates(params, updates)
        average = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p.astype(a.dtype), state.average, new)
        return updates, MovingAverageState(inner, average)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


class MasterState(NamedTuple):
    """Beside the state of a rule: the parameters it moves, in float32."""

    rule: optax.OptState
    params: Any


def in_float32(rule: optax.GradientTransformation) -> optax.GradientTransformation:
    """Returns a rule whose moments are float32 and whose arithmetic is, whatever type parameters and gradients have.

    In bfloat16 a moment with a decay of 0.999 never falls: it changes by less than half of what that type can tell.
    """

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        return rule.update(_float32(updates), state, None if params is None else _float32(params))

    return optax.GradientTransformation(lambda params: rule.init(_float32(params)), update)


def on_master_copy(rule: optax.GradientTransformation) -> optax.GradientTransformation:
    """Returns a rule that moves a float32 copy of the parameters, which themselves are that copy rounded."""

    def init(params: optax.Params) -> MasterState:
        master = jax.tree.map(lambda leaf: jnp.array(leaf, jnp.float32), params)
        return MasterState(rule.init(master), master)

    def update(
        updates: optax.Updates, state: MasterState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, MasterState]:
        if params is None:
            raise ValueError("a copy is of parameters: give them to update()")
        moved, inner = rule.update(_float32(updates), state.rule, state.params)
        master = optax.apply_updates(state.params, moved)
        return jax.tree.map(jnp.subtract, master, _float32(params)), MasterState(inner, master)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def _float32(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree)


def eval_params(params: Any, opt_state: optax.OptState, *, dtypes: Any = None) -> Any:
    """Returns the parameters to evaluate and to keep: an average where the optimizer holds one, else `params`.

    Args:
        params: those behind the last step.
        opt_state: of the optimizer.
        dtypes: parameters whose types the result has; `None` = `params`.
    """
    if isinstance(opt_state, MovingAverageState):
        return jax.tree.map(lambda average, leaf: average.astype(leaf.dtype), opt_state.average, params)
    exact = params
    for state in jax.tree.leaves(opt_state, is_leaf=_knows_parameters):
        if isinstance(state, MasterState):
            exact = jax.tree.map(_unless_masked, state.params, params, is_leaf=_is_masked)
            return eval_params(exact, state.rule, dtypes=params)
        if isinstance(state, optax.contrib.ScheduleFreeState):
            return _schedule_free_average(exact, state, params if dtypes is None else dtypes)
    return params


def _knows_parameters(state: Any) -> bool:
    return isinstance(state, optax.contrib.ScheduleFreeState | MasterState)


def _is_masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)


def _unless_masked(held: Any, leaf: jax.Array) -> jax.Array:
    return leaf if _is_masked(held) else held


def _schedule_free_average(params: Any, state: Any, dtypes: Any) -> Any:
    """Returns the x of y = (1 - b) z + b x; frozen parameters have no z."""

    def average(z: Any, y: jax.Array, like: jax.Array) -> jax.Array:
        return like if _is_masked(z) else ((y - (1 - state.b1) * z) / state.b1).astype(like.dtype)

    return jax.tree.map(average, state.z, params, dtypes, is_leaf=_is_masked)
