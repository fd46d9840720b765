"""Direct preference optimisation: the answers of a pair, scored by policy and reference, in one loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import jax.numpy as jnp
from easydel_transforms import DPOPreprocessTransform

from easydel_trainers.algorithms.dpo.config import DPOConfig
from easydel_trainers.algorithms.dpo.loss import SORTING, DPOOptions, Pairs, dpo_losses, policy_weights
from easydel_trainers.data.groups import Group
from easydel_trainers.metrics import Ratios, Terms
from easydel_trainers.preference.objective import CausalObjective, label_count, pair_metrics
from easydel_trainers.preference.referenced_trainer import ReferencedTrainer
from easydel_trainers.preference.sequences import pair_groups
from easydel_trainers.step import Batch, Extras, Scores

_SFT = "sft"


@final
class DPOTrainer(ReferencedTrainer[DPOConfig]):
    """Fine-tunes a causal language model on pairs of a chosen and a rejected answer."""

    _sequences = 2

    def _default_config(self) -> DPOConfig:
        return DPOConfig()

    def _make_transform(self) -> DPOPreprocessTransform:
        return DPOPreprocessTransform(tokenizer=self.processing_class, **self._row_options())

    def _make_objective(self, structure: Any) -> DPOObjective:
        return DPOObjective(structure=structure, config=self.arguments)

    def _groups(self, rows: Sequence[Any]) -> list[Group]:
        return pair_groups(rows)

    @property
    def _compares(self) -> bool:
        # Also where the loss is `sft` alone: the rewards that are shown are differences to the reference.
        return not self.arguments.reference_free

    @property
    def _ld_alpha(self) -> float | None:
        return self.arguments.ld_alpha


@final
@dataclass(frozen=True, kw_only=True)
class DPOObjective(CausalObjective):
    """The DPO losses of a model of some structure."""

    config: DPOConfig

    @property
    def coupled(self) -> bool:
        """Whether a loss sorts the pairs of a step."""
        return not SORTING.isdisjoint(self.config.loss_types)

    @property
    def sequences(self) -> int:
        """Chosen and rejected."""
        return 2

    @property
    def score_options(self) -> dict[str, Any]:
        """See `sequence_scores`."""
        return {"ld_alpha": self.config.ld_alpha, "with_log_weights": self.config.use_weighting}

    def weights(self, batch: Batch) -> Terms:
        """Pairs; for `sft`, tokens of the chosen answers."""
        pairs, types = batch["rows"]["real"].sum(), self.config.loss_types
        weights = {"pairs": pairs} if set(types) != {_SFT} else {}
        return weights | ({_SFT: label_count(batch, sequence=0)} if _SFT in types else {})

    def score_loss(
        self, scores: Scores, rows: Scores, extras: Extras, *, training: bool
    ) -> tuple[Terms, Ratios, Extras]:
        """See `ScoredObjective`."""
        config, pairs = self.config, _pairs(scores, rows)
        losses = {
            name: weight * dpo_losses(pairs, name, _options(config))  # pyright: ignore[reportArgumentType]
            for name, weight in config.weighted_losses.items()
            if name != _SFT
        }
        terms: Terms = {}
        if losses:
            per_pair = sum(losses.values(), jnp.float32(0))
            if config.use_weighting:
                per_pair = per_pair * policy_weights(*scores["log_weights"])
            terms["pairs"] = jnp.sum(per_pair)
        if _SFT in config.weighted_losses:
            terms[_SFT] = config.weighted_losses[_SFT] * scores["nll"][0].sum()
        rewards = (
            config.beta * (pairs.chosen - pairs.reference_chosen),
            config.beta * (pairs.rejected - pairs.reference_rejected),
        )
        return terms, pair_metrics(scores, rows, rewards), extras


def _pairs(scores: Scores, rows: Scores) -> Pairs:
    reference = rows.get("reference_logps", jnp.zeros_like(scores["logps"]))
    return Pairs(
        chosen=scores["logps"][0],
        rejected=scores["logps"][1],
        reference_chosen=reference[0],
        reference_rejected=reference[1],
        chosen_lengths=scores["lengths"][0],
        rejected_lengths=scores["lengths"][1],
        real=rows["real"],
    )


def _options(config: DPOConfig) -> DPOOptions:
    return DPOOptions(
        beta=config.beta,
        label_smoothing=config.label_smoothing,
        f_divergence_type=config.f_divergence_type,
        f_alpha_divergence_coef=config.f_alpha_divergence_coef,
        discopop_tau=config.discopop_tau,
    )
