"""Options of reward modelling."""

from __future__ import annotations

from typing import final

from easydel_trainers.config import TrainerConfig
from easydel_trainers.errors import ConfigError
from easydel_trainers.trl.names import trainer_config


@final
@trainer_config
class RewardConfig(TrainerConfig):
    """Training a model that scores answers, on pairs of a chosen and a rejected one."""

    learning_rate: float = 1e-4
    """Peak learning rate, reached after warm-up. > 0."""
    max_length: int | None = 1024
    """Longest prompt and answer together, in tokens; rows with longer ones are dropped and counted. `None` = never."""
    center_rewards_coefficient: float | None = None
    """Weight of a term that keeps the mean score near 0. `None` = no such term; 0.01 is usual."""
    padding_free: bool = True
    """Lay the answers of a batch end to end instead of padding each: same loss and gradients, less work."""

    def __post_init__(self) -> None:
        """Checks the options of reward modelling after the shared ones."""
        TrainerConfig.__post_init__(self)
        if self.center_rewards_coefficient is not None and not self.center_rewards_coefficient >= 0:
            raise ConfigError("center_rewards_coefficient", self.center_rewards_coefficient, "None, or at least 0")
