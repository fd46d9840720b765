"""Optimizers by name, from optax, with clipping and weight decay as the config says."""

from __future__ import annotations

from typing import Any

import jax
import optax

from easydel_trainers.config import TrainerConfig


def make_optimizer(config: TrainerConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Clip, then the update rule, with decoupled weight decay on matrices only."""
    clip = optax.identity() if config.clip_grad is None else optax.clip_by_global_norm(config.clip_grad)
    return optax.chain(clip, _update_rule(config, schedule))


def _update_rule(config: TrainerConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    if config.optimizer == "adamw":
        return optax.adamw(
            schedule,
            b1=config.adam_beta1,
            b2=config.adam_beta2,
            eps=config.adam_epsilon,
            weight_decay=config.weight_decay,
            mask=decays,
        )
    if config.optimizer == "lion":
        return optax.lion(
            schedule,
            b1=config.adam_beta1,
            b2=config.adam_beta2,
            weight_decay=config.weight_decay,
            mask=decays,
        )
    return optax.chain(optax.add_decayed_weights(config.weight_decay, mask=decays), optax.sgd(schedule))


def decays(params: Any) -> Any:
    """Which parameters weight decay applies to: those with two dimensions or more in one layer.

    Layers are stacked along a first axis below the key `layers`, which does not count: a norm weight
    `[layers, dim]` is one-dimensional.
    """

    def is_matrix(path: tuple[Any, ...], leaf: jax.Array) -> bool:
        stacked = any(isinstance(part, jax.tree_util.DictKey) and part.key == "layers" for part in path)
        return leaf.ndim - stacked >= 2

    return jax.tree_util.tree_map_with_path(is_matrix, params)
