"""When a checkpoint is due: by steps, by time, and at the end of an epoch."""

from __future__ import annotations

import time
from typing import final

import jax
import numpy as np
from jax.experimental import multihost_utils

from easydel_trainers.config import TrainerConfig
from easydel_trainers.data.steps import PreparedStep


@final
class SaveSchedule:
    """Asked behind every step.

    Args:
        config: names the intervals.
    """

    def __init__(self, config: TrainerConfig):
        self._config = config
        self._last = time.monotonic()
        self._epoch: int | None = None

    def is_due(self, step: int, prepared: PreparedStep) -> bool:
        """Returns whether to save behind a step; the same on all processes."""
        config = self._config
        ended, self._epoch = self._epoch_ended(prepared), prepared.epoch + prepared.ends_epoch
        by_steps = config.save_steps is not None and step % config.save_steps == 0
        return by_steps or (config.save_epochs and ended) or self._time_is_up(step)

    def saved(self) -> None:
        """A checkpoint was just begun."""
        self._last = time.monotonic()

    def _epoch_ended(self, prepared: PreparedStep) -> bool:
        # Where it is not known in advance, the first step of the next epoch tells.
        return prepared.ends_epoch or (self._epoch is not None and prepared.epoch > self._epoch)

    def _time_is_up(self, step: int) -> bool:
        minutes = self._config.save_minutes
        if minutes is None:
            return False
        is_up = time.monotonic() - self._last >= 60 * minutes
        if jax.process_count() == 1:
            return is_up
        # Clocks differ, and all must save together: the first process decides, where all wait for each other anyway.
        if step % self._config.log_steps:
            return False
        return bool(multihost_utils.broadcast_one_to_all(np.bool_(is_up)))
