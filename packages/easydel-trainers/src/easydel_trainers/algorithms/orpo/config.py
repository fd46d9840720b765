"""Options of odds ratio preference optimisation."""

from __future__ import annotations

from typing import final

from easydel_trainers.config_checks import require_positive
from easydel_trainers.preference.config import PreferenceConfig
from easydel_trainers.trl.names import trainer_config


@final
@trainer_config
class ORPOConfig(PreferenceConfig):
    """Odds ratio preference optimisation: fine-tuning and preferences in one loss, without a reference model."""

    beta: float = 0.1
    """Weight of the odds ratio term beside the negative log-likelihood (lambda in the paper). > 0."""

    def __post_init__(self) -> None:
        """Checks the options of ORPO after the shared ones."""
        PreferenceConfig.__post_init__(self)
        require_positive("beta", self.beta)
