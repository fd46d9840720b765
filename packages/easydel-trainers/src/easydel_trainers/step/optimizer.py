"""Optimizers by name, from optax, with clipping, weight decay, frozen parameters and averages as the config says.

Layers are stacked: `params["layers"]["query"]` is `[layers, in, out]`. Rules that look at a parameter's shape (which
to decay, what to factor, what to orthogonalise) look at one layer's, without that first axis.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from easydel_trainers.config import TrainerConfig
from easydel_trainers.errors import ConfigError
from easydel_trainers.step.averaging import in_float32, moving_average, on_master_copy

_MUON_RMS = 0.2  # size of an update relative to the learning rate, as large as adamw's: the same rates suit both


def make_optimizer(config: TrainerConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Clip, then the update rule, with decoupled weight decay on matrices only."""
    clip = optax.identity() if config.clip_grad is None else optax.clip_by_global_norm(config.clip_grad)
    rule = optax.chain(clip, _update_rule(config, schedule))
    # Schedule-free parameters are an average themselves, which bfloat16 could not move.
    needs_copy = config.optimizer == "schedule_free" and config.param_dtype != "float32"
    optimizer = on_master_copy(rule) if needs_copy else in_float32(rule)
    if config.frozen_parameters:
        optimizer = optax.partition(
            {"trained": optimizer, "frozen": optax.set_to_zero()},
            lambda params: _labels(params, config.frozen_parameters),
        )
    return optimizer if config.ema_decay is None else moving_average(optimizer, decay=config.ema_decay)


def decays(params: Any) -> Any:
    """Returns which parameters weight decay applies to: those with two dimensions or more in one layer."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: _layer_rank(path, leaf) >= 2, params)


def frozen(params: Any, patterns: Sequence[str]) -> Any:
    """Returns which parameters are not trained: those whose dotted path contains a match of one of `patterns`.

    Raises:
        ConfigError: if a pattern matches no parameter, or all of them are matched.
    """
    paths = [_dotted(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for pattern in patterns:
        if not any(re.search(pattern, path) for path in paths):
            raise ConfigError("frozen_parameters", pattern, "a pattern found in one of " + ", ".join(paths))
    mask = jax.tree_util.tree_map_with_path(
        lambda path, _: any(re.search(pattern, _dotted(path)) for pattern in patterns), params
    )
    if all(jax.tree.leaves(mask)):
        raise ConfigError("frozen_parameters", list(patterns), "patterns that leave a parameter to train")
    return mask


def without_frozen(grads: Any, patterns: Sequence[str]) -> Any:
    """Returns gradients with those of frozen parameters zeroed."""
    if not patterns:
        return grads
    return jax.tree.map(lambda g, still: jnp.zeros_like(g) if still else g, grads, frozen(grads, patterns))


def _labels(params: Any, patterns: Sequence[str]) -> Any:
    return jax.tree.map(lambda is_frozen: "frozen" if is_frozen else "trained", frozen(params, patterns))


def _update_rule(config: TrainerConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    rules: dict[str, Callable[[TrainerConfig, optax.Schedule], optax.GradientTransformation]] = {
        "adamw": _adamw,
        "lion": _lion,
        "adafactor": _adafactor,
        "muon": _muon,
        "sgd": _sgd,
        "schedule_free": _schedule_free,
    }
    return rules[config.optimizer](config, schedule)


def _adamw(config: TrainerConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    return optax.adamw(
        schedule,
        b1=config.adam_beta1,
        b2=config.adam_beta2,
        eps=config.adam_epsilon,
        weight_decay=config.weight_decay,
        mask=decays,
    )


def _lion(config: TrainerConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    return optax.lion(
        schedule, b1=config.adam_beta1, b2=config.adam_beta2, weight_decay=config.weight_decay, mask=decays
    )


def _sgd(config: TrainerConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    return optax.chain(_decay(config), optax.sgd(schedule))


def _adafactor(config: TrainerConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Factored second moments and clipping by block, on the learning rate given (no relative step sizes)."""
    rule = optax.chain(optax.scale_by_factored_rms(), optax.clip_by_block_rms(1.0))
    return optax.chain(_by_layer(rule), _decay(config), optax.scale_by_learning_rate(schedule))


def _muon(config: TrainerConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Kernels by Muon, each layer's by itself; tables, norms and biases by adamw."""
    kernels = optax.contrib.muon(
        schedule,
        weight_decay=config.weight_decay,
        consistent_rms=_MUON_RMS,
        muon_weight_dimension_numbers=_kernel_axes,
    )
    return optax.partition({"kernel": kernels, "other": _adamw(config, schedule)}, _kernels_and_others)


def _schedule_free(config: TrainerConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Like adamw without its first moment: the average of the parameters takes its place."""
    rule = optax.chain(
        optax.scale_by_rms(decay=config.adam_beta2, eps=config.adam_epsilon, eps_in_sqrt=False, bias_correction=True),
        _decay(config),
        optax.scale_by_learning_rate(schedule),
    )
    return optax.contrib.schedule_free(rule, learning_rate=schedule, b1=config.adam_beta1)


def _decay(config: TrainerConfig) -> optax.GradientTransformation:
    return optax.add_decayed_weights(config.weight_decay, mask=decays)


def _by_layer(rule: optax.GradientTransformation) -> optax.GradientTransformation:
    """Applies a rule to stacked parameters one layer at a time, as if each were a parameter of its own."""
    each = optax.GradientTransformation(
        jax.vmap(rule.init), lambda updates, state, params=None: jax.vmap(rule.update)(updates, state, params)
    )

    def labels(params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(lambda path, _: "stacked" if _is_stacked(path) else "single", params)

    return optax.partition({"stacked": each, "single": rule}, labels)


def _kernels_and_others(params: Any) -> Any:
    def label(path: tuple[Any, ...], leaf: jax.Array) -> str:
        return "kernel" if _is_stacked(path) and _layer_rank(path, leaf) == 2 else "other"

    return jax.tree_util.tree_map_with_path(label, params)


def _kernel_axes(params: Any) -> Any:
    """Returns which axes of each kernel are its inputs and outputs."""
    # Kernels are `[layers, in, out]`: without being told, Muon would take no array of three axes.
    return jax.tree.map(lambda _: optax.contrib.MuonDimensionNumbers(reduction_axis=1, output_axis=2), params)


def _layer_rank(path: tuple[Any, ...], leaf: jax.Array) -> int:
    return leaf.ndim - _is_stacked(path)


def _is_stacked(path: tuple[Any, ...]) -> bool:
    return any(isinstance(part, jax.tree_util.DictKey) and part.key == "layers" for part in path)


def _dotted(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
