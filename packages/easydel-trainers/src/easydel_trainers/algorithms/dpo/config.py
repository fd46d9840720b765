"""Options of direct preference optimisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final, get_args

from easydel_trainers.algorithms.dpo.loss_names import LOSS_TYPES, FDivergence
from easydel_trainers.config_checks import require_choice, require_positive
from easydel_trainers.errors import ConfigError
from easydel_trainers.preference.config import ReferenceConfig
from easydel_trainers.trl.names import trainer_config

_SMOOTHED = ("sigmoid", "exo_pair", "robust", "aot", "aot_unpaired")
_OF_DIVERGENCE = ("sigmoid", "hinge", "ipo", "exo_pair", "robust", "discopop", "sigmoid_norm")


@final
@trainer_config
class DPOConfig(ReferenceConfig):
    """Direct preference optimisation on pairs of a chosen and a rejected answer."""

    beta: float = 0.1
    """How strongly the policy is held to the reference: larger keeps it closer. > 0."""
    loss_type: str | Sequence[str] = "sigmoid"
    """One loss of `dpo_losses`, `sft` (negative log-likelihood of the chosen answer, per token), or several."""
    loss_weights: Sequence[float] | None = None
    """A weight for each loss. `None` = 1 for each."""
    label_smoothing: float = 0.0
    """Probability that a pair's label is wrong, in [0, 0.5). Used by `sigmoid` (conservative DPO), `exo_pair` (which
    needs it), `robust` and the `aot` losses."""

    f_divergence_type: FDivergence = "reverse_kl"
    """Divergence between policy and reference that the scores come from."""
    f_alpha_divergence_coef: float = 0.5
    """Alpha of `alpha_divergence`."""
    discopop_tau: float = 0.05
    """Temperature of `discopop`. > 0."""
    ld_alpha: float | None = None
    """Weight of the tokens beyond the length of a pair's shorter answer, in [0, 1] (LD-DPO). `None` = 1."""
    use_weighting: bool = False
    """Weight each pair by how likely the policy is to write it (WPO). Not with the `aot` losses."""
    reference_free: bool = False
    """Compare with a uniform reference instead of a model."""

    def __post_init__(self) -> None:
        """Checks the options of DPO after the shared ones."""
        ReferenceConfig.__post_init__(self)
        types = self.loss_types
        for loss_type in types:
            require_choice("loss_type", loss_type, LOSS_TYPES)
        if not types or len(set(types)) != len(types):
            raise ConfigError("loss_type", self.loss_type, "one loss, or several different ones")
        require_choice("f_divergence_type", self.f_divergence_type, get_args(FDivergence))
        require_positive("beta", self.beta)
        require_positive("discopop_tau", self.discopop_tau)
        self._check_weights(types)
        self._check_smoothing(types)
        self._check_combinations(types)

    @property
    def loss_types(self) -> tuple[str, ...]:
        """The losses as a tuple."""
        return (self.loss_type,) if isinstance(self.loss_type, str) else tuple(self.loss_type)

    @property
    def weighted_losses(self) -> dict[str, float]:
        """Weight of every loss."""
        return dict(zip(self.loss_types, self.loss_weights or [1.0] * len(self.loss_types), strict=True))

    def _check_weights(self, types: tuple[str, ...]) -> None:
        if self.loss_weights is not None and len(self.loss_weights) != len(types):
            raise ConfigError("loss_weights", self.loss_weights, f"{len(types)} numbers, one for each of {types}")

    def _check_smoothing(self, types: tuple[str, ...]) -> None:
        if not 0 <= self.label_smoothing < 0.5:
            raise ConfigError("label_smoothing", self.label_smoothing, "a number in [0, 0.5)")
        if self.label_smoothing and not set(types) & set(_SMOOTHED):
            raise ConfigError("label_smoothing", self.label_smoothing, f"0: only {', '.join(_SMOOTHED)} use it")
        if "exo_pair" in types and not self.label_smoothing:
            raise ConfigError("label_smoothing", self.label_smoothing, "larger than 0 with exo_pair; 1e-3 is usual")

    def _check_combinations(self, types: tuple[str, ...]) -> None:
        if self.ld_alpha is not None and not 0 <= self.ld_alpha <= 1:
            raise ConfigError("ld_alpha", self.ld_alpha, "a number in [0, 1]")
        if self.use_weighting and {"aot", "aot_unpaired"} & set(types):
            raise ConfigError("use_weighting", True, "False with aot losses: sorting parts the pairs")
        if self.f_divergence_type != "reverse_kl" and not set(types) & set(_OF_DIVERGENCE):
            raise ConfigError("f_divergence_type", self.f_divergence_type, f"reverse_kl: {types} have no divergence")
        if self.reference_free and (self.precompute_ref_log_probs or self.sync_ref_model):
            raise ConfigError("reference_free", True, "False with precompute_ref_log_probs or sync_ref_model")
