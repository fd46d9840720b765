"""Learning-rate schedules, as Hugging Face defines them: step k (from 0) uses `schedule(k)`.

>>> from easydel_trainers.config import TrainerConfig
>>> rate = learning_rate_schedule(TrainerConfig(learning_rate=1.0, warmup_steps=2), total_steps=6)
>>> [float(rate(k)) for k in range(6)]
[0.0, 0.5, 1.0, 0.75, 0.5, 0.25]
"""

from __future__ import annotations

import optax

from easydel_trainers.config import TrainerConfig
from easydel_trainers.errors import ConfigError


def learning_rate_schedule(config: TrainerConfig, *, total_steps: int | None) -> optax.Schedule:
    """Warm-up, then the shape `config.scheduler` names, down to `learning_rate_end` at `total_steps`.

    Args:
        config: names the schedule and its rates.
        total_steps: optimizer steps of the run; `None` = unknown, which only `constant` allows.

    Raises:
        ConfigError: if the total is needed and unknown, or warm-up leaves no step.
    """
    peak, end, warmup = config.learning_rate, config.learning_rate_end, config.warmup_steps
    if config.scheduler == "constant":
        after = optax.constant_schedule(peak)
    else:
        steps = _steps_after_warmup(config, total_steps)
        if config.scheduler == "linear":
            after = optax.linear_schedule(peak, end, steps)
        elif config.scheduler == "wsd":
            after = _stable_then_decay(config, steps)
        else:
            after = optax.cosine_decay_schedule(peak, steps, alpha=end / peak)
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


def _stable_then_decay(config: TrainerConfig, steps: int) -> optax.Schedule:
    decay = max(1, steps // 10) if config.decay_steps is None else config.decay_steps
    if decay > steps:
        raise ConfigError("decay_steps", decay, f"at most the {steps} steps that warm-up leaves of the run")
    peak = optax.constant_schedule(config.learning_rate)
    down = optax.linear_schedule(config.learning_rate, config.learning_rate_end, decay)
    return optax.join_schedules([peak, down], [steps - decay])


def _steps_after_warmup(config: TrainerConfig, total_steps: int | None) -> int:
    if total_steps is None:
        raise ConfigError(
            "max_training_steps",
            None,
            f"a number, since the rows of this data set cannot be counted and a {config.scheduler} schedule must "
            "know where it ends; or scheduler='constant'",
        )
    if config.warmup_steps >= total_steps:
        raise ConfigError("warmup_steps", config.warmup_steps, f"fewer steps than the run has ({total_steps})")
    return total_steps - config.warmup_steps
