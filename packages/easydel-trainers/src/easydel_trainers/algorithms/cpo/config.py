"""Options of contrastive preference optimisation."""

from __future__ import annotations

from typing import Any, final, get_args

from easydel_trainers.algorithms.cpo.loss_names import CPOLossType
from easydel_trainers.config_checks import require_choice, require_positive
from easydel_trainers.errors import ConfigError
from easydel_trainers.preference.config import PreferenceConfig
from easydel_trainers.trl.names import trainer_config


@final
@trainer_config
class CPOConfig(PreferenceConfig):
    """Contrastive preference optimisation, SimPO and AlphaPO, without a reference model."""

    beta: float = 0.1
    """Scale of the difference of log-probabilities. > 0. SimPO's is 2 to 10."""
    loss_type: CPOLossType = "sigmoid"
    """See `cpo_losses`. `CPOConfig.simpo()` is SimPO as its paper has it."""
    label_smoothing: float = 0.0
    """Probability that a pair's label is wrong, in [0, 0.5). Not used by `hinge` and `ipo`."""
    cpo_alpha: float | None = None
    """Weight of the chosen answer's negative log-likelihood per token. `None` = 1, and 0 for `alphapo`, which has no
    such term."""
    simpo_gamma: float = 0.5
    """Margin that `simpo` and `alphapo` aim at, in the same scale as rewards."""
    alpha: float = 0.0
    """Exponent that AlphaPO changes log-probabilities by. 0 = not at all."""

    def __post_init__(self) -> None:
        """Checks the options of CPO after the shared ones, and settles `cpo_alpha`."""
        PreferenceConfig.__post_init__(self)
        require_choice("loss_type", self.loss_type, get_args(CPOLossType))
        require_positive("beta", self.beta)
        alphapo = self.loss_type == "alphapo"
        if self.cpo_alpha is None:
            object.__setattr__(self, "cpo_alpha", 0.0 if alphapo else 1.0)
        elif self.cpo_alpha < 0 or (alphapo and self.cpo_alpha):
            raise ConfigError("cpo_alpha", self.cpo_alpha, "0 with alphapo" if alphapo else "a number of at least 0")
        if not 0 <= self.label_smoothing < 0.5:
            raise ConfigError("label_smoothing", self.label_smoothing, "a number in [0, 0.5)")
        if self.label_smoothing and self.loss_type in ("hinge", "ipo"):
            raise ConfigError("label_smoothing", self.label_smoothing, f"0: {self.loss_type} does not use it")

    @property
    def nll_weight(self) -> float:
        """`cpo_alpha`, settled."""
        return self.cpo_alpha or 0.0

    @classmethod
    def simpo(cls, **options: Any) -> CPOConfig:
        """Pure SimPO: no likelihood term, beta 2, gamma 1 (Meng et al. 2024, section 4); `options` override them."""
        return cls(**{"loss_type": "simpo", "cpo_alpha": 0.0, "beta": 2.0, "simpo_gamma": 1.0, **options})
