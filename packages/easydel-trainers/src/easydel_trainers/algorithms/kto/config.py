"""Options of Kahneman-Tversky optimisation."""

from __future__ import annotations

from typing import final, get_args

from easydel_trainers.algorithms.kto.loss_names import KTOLossType
from easydel_trainers.config_checks import require_choice, require_positive
from easydel_trainers.errors import ConfigError
from easydel_trainers.preference.config import ReferenceConfig
from easydel_trainers.trl.names import trainer_config


@final
@trainer_config
class KTOConfig(ReferenceConfig):
    """Kahneman-Tversky optimisation on single completions that are desirable or not (or on pairs, taken apart)."""

    beta: float = 0.1
    """How strongly the policy is held to the reference: larger keeps it closer. > 0."""
    loss_type: KTOLossType = "kto"
    """See `kto_losses`. `kto` estimates a KL divergence from completions given to other prompts of the step."""
    desirable_weight: float = 1.0
    """Weight of desirable completions. With n_d of them and n_u others, keep desirable_weight * n_d /
    (undesirable_weight * n_u) between 1 and 4/3. > 0."""
    undesirable_weight: float = 1.0
    """Weight of undesirable completions. > 0."""

    def __post_init__(self) -> None:
        """Checks the options of KTO after the shared ones."""
        ReferenceConfig.__post_init__(self)
        require_choice("loss_type", self.loss_type, get_args(KTOLossType))
        for name in ("beta", "desirable_weight", "undesirable_weight"):
            require_positive(name, getattr(self, name))
        if self.loss_type == "kto":
            for name in ("total_batch_size", "eval_batch_size"):
                if getattr(self, name) < 2:
                    raise ConfigError(
                        name,
                        getattr(self, name),
                        "at least 2: the kto loss gives each prompt a completion of another row of its step. Or "
                        "take loss_type='apo_zero_unpaired', which needs none",
                    )
