"""Averages of the parameters over training, and which parameters stand for the model when it is judged or kept.

Both kinds live in the optimizer's state, so checkpoints, donation and sharding cover them without a word here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import optax


class MovingAverageState(NamedTuple):
    """Beside the state of the rule that is averaged: the average."""

    rule: optax.OptState
    average: Any


def moving_average(rule: optax.GradientTransformation, *, decay: float) -> optax.GradientTransformation:
    r"""Keep $a_{k+1} = d\,a_k + (1-d)\,\theta_{k+1}$ beside the parameters, with $a_0 = \theta_0$.

    Args:
        rule: what updates the parameters.
        decay: d, between 0 and 1.
    """

    def init(params: optax.Params) -> MovingAverageState:
        # A copy: the step donates both, and one buffer cannot be given away twice.
        return MovingAverageState(rule.init(params), jax.tree.map(lambda leaf: leaf.copy(), params))

    def update(
        updates: optax.Updates, state: MovingAverageState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, MovingAverageState]:
        if params is None:
            raise ValueError("an average is of parameters: give them to update()")
        updates, inner = rule.update(updates, state.rule, params)
        new = optax.apply_updates(params, updates)
        average = jax.tree.map(lambda a, p: (decay * a + (1 - decay) * p).astype(a.dtype), state.average, new)
        return updates, MovingAverageState(inner, average)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def judged_params(params: Any, opt_state: optax.OptState) -> Any:
    """The parameters to evaluate and to keep: an average where the optimizer holds one, else `params`."""
    if isinstance(opt_state, MovingAverageState):
        return opt_state.average
    for state in jax.tree.leaves(opt_state, is_leaf=_is_schedule_free):
        if _is_schedule_free(state):
            return _schedule_free_average(params, state)
    return params


def _is_schedule_free(state: Any) -> bool:
    return isinstance(state, optax.contrib.ScheduleFreeState)


def _schedule_free_average(params: Any, state: Any) -> Any:
    """The x of y = (1 - b) z + b x; frozen parameters have no z."""

    def average(z: Any, y: jax.Array) -> jax.Array:
        return y if isinstance(z, optax.MaskedNode) else ((y - (1 - state.b1) * z) / state.b1).astype(y.dtype)

    return jax.tree.map(average, state.z, params, is_leaf=lambda node: isinstance(node, optax.MaskedNode))
