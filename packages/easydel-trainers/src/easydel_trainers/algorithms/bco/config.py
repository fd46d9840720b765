"""Options of binary classifier optimisation."""

from __future__ import annotations

from typing import final

from easydel_trainers.config_checks import require_positive, require_whole
from easydel_trainers.errors import ConfigError
from easydel_trainers.preference.config import ReferenceConfig
from easydel_trainers.trl.names import trainer_config


@final
@trainer_config
class BCOConfig(ReferenceConfig):
    """Binary classifier optimisation on single completions that are desirable or not (or on pairs, taken apart)."""

    learning_rate: float = 5e-7
    """Peak learning rate, reached after warm-up. > 0."""
    beta: float = 0.1
    """How strongly the policy is held to the reference: larger keeps it closer. > 0."""

    prompt_sample_size: int = 1024
    """Most prompts of each class that the classifier of underlying distribution matching is fitted to. Used with an
    `embedding_func`."""
    min_density_ratio: float = 0.5
    """Smallest weight of an undesirable completion, with an `embedding_func`. > 0."""
    max_density_ratio: float = 10.0
    """Largest weight of an undesirable completion, with an `embedding_func`."""

    def __post_init__(self) -> None:
        """Checks the options of BCO after the shared ones."""
        ReferenceConfig.__post_init__(self)
        require_positive("beta", self.beta)
        require_whole("prompt_sample_size", self.prompt_sample_size, least=2)
        require_positive("min_density_ratio", self.min_density_ratio)
        if self.max_density_ratio < self.min_density_ratio:
            raise ConfigError(
                "max_density_ratio", self.max_density_ratio, f"at least min_density_ratio ({self.min_density_ratio})"
            )
