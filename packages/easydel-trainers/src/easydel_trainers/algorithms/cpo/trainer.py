"""Contrastive preference optimisation: both answers under the policy alone, and the chosen one's likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import jax.numpy as jnp
from easydel_transforms import CPOPreprocessTransform

from easydel_trainers.algorithms.cpo.config import CPOConfig
from easydel_trainers.algorithms.cpo.loss import AVERAGING, cpo_losses
from easydel_trainers.data.groups import Group
from easydel_trainers.metrics import Ratios, Terms
from easydel_trainers.preference.objective import CausalObjective, label_count, pair_metrics
from easydel_trainers.preference.sequences import pair_groups
from easydel_trainers.preference.trainer import PreferenceTrainer
from easydel_trainers.step import Batch, Extras, Scores


@final
class CPOTrainer(PreferenceTrainer[CPOConfig]):
    """Fine-tunes a causal language model on pairs of a chosen and a rejected answer, without a reference model."""

    _sequences = 2

    def _default_config(self) -> CPOConfig:
        return CPOConfig()

    def _make_transform(self) -> CPOPreprocessTransform:
        return CPOPreprocessTransform(tokenizer=self.processing_class, **self._row_options())

    def _make_objective(self, structure: Any) -> CPOObjective:
        return CPOObjective(structure=structure, config=self.arguments)

    def _groups(self, rows: Sequence[Any]) -> list[Group]:
        return pair_groups(rows)


@final
@dataclass(frozen=True, kw_only=True)
class CPOObjective(CausalObjective):
    """The CPO loss of a model of some structure."""

    config: CPOConfig

    @property
    def sequences(self) -> int:
        """Chosen and rejected."""
        return 2

    def weights(self, batch: Batch) -> Terms:
        """Pairs; for the likelihood, tokens of the chosen answers."""
        pairs = {"pairs": batch["rows"]["real"].sum()}
        return pairs | ({"nll": label_count(batch, sequence=0)} if self.config.nll_weight else {})

    def score_loss(
        self, scores: Scores, rows: Scores, extras: Extras, *, training: bool
    ) -> tuple[Terms, Ratios, Extras]:
        """See `ScoredObjective`."""
        config, logps = self.config, scores["logps"]
        if config.loss_type in AVERAGING:
            logps = logps / jnp.maximum(scores["lengths"], 1)
        chosen, rejected = logps
        found = cpo_losses(
            chosen,
            rejected,
            loss_type=config.loss_type,
            beta=config.beta,
            label_smoothing=config.label_smoothing,
            simpo_gamma=config.simpo_gamma,
            alpha=config.alpha,
        )
        rewards = (found.chosen_rewards, found.rejected_rewards)
        terms: Terms = {"pairs": (found.losses * rows["real"]).sum()}
        nll = scores["nll"][0].sum()
        if config.nll_weight:
            terms["nll"] = config.nll_weight * nll
        metrics = pair_metrics(scores, rows, rewards, (chosen, rejected))
        return terms, {**metrics, "nll_loss": (nll, scores["label_counts"][0].sum())}, extras
