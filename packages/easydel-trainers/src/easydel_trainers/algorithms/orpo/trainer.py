"""Odds ratio preference optimisation: likelihood of prompt and chosen answer, and the odds of both answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import jax.numpy as jnp
from easydel_transforms import ORPOPreprocessTransform

from easydel_trainers.algorithms.orpo.config import ORPOConfig
from easydel_trainers.algorithms.orpo.loss import orpo_losses
from easydel_trainers.data.groups import Group
from easydel_trainers.metrics import Ratios, Terms
from easydel_trainers.preference.objective import CausalObjective, label_count, pair_metrics
from easydel_trainers.preference.sequences import pair_groups
from easydel_trainers.preference.trainer import PreferenceTrainer
from easydel_trainers.step import Batch, Extras, Scores


@final
class ORPOTrainer(PreferenceTrainer[ORPOConfig]):
    """Fine-tunes a causal language model on pairs of a chosen and a rejected answer, without a reference model."""

    _sequences = 2

    def _default_config(self) -> ORPOConfig:
        return ORPOConfig()

    def _make_transform(self) -> ORPOPreprocessTransform:
        return ORPOPreprocessTransform(tokenizer=self.processing_class, **self._row_options())

    def _make_objective(self, structure: Any) -> ORPOObjective:
        return ORPOObjective(structure=structure, config=self.arguments)

    def _groups(self, rows: Sequence[Any]) -> list[Group]:
        return pair_groups(rows, train_prompt=True)


@final
@dataclass(frozen=True, kw_only=True)
class ORPOObjective(CausalObjective):
    """The ORPO loss of a model of some structure."""

    config: ORPOConfig

    @property
    def sequences(self) -> int:
        """Chosen and rejected."""
        return 2

    def weights(self, batch: Batch) -> Terms:
        """Tokens of prompt and chosen answer for the likelihood, pairs for the odds."""
        return {"nll": label_count(batch, sequence=0), "odds": batch["rows"]["real"].sum()}

    def score_loss(
        self, scores: Scores, rows: Scores, extras: Extras, *, training: bool
    ) -> tuple[Terms, Ratios, Extras]:
        """See `ScoredObjective`."""
        beta, real = self.config.beta, rows["real"]
        chosen, rejected = scores["logps"] / jnp.maximum(scores["lengths"], 1)
        odds = orpo_losses(chosen, rejected, beta=beta)
        nll = scores["nll"][0].sum()
        metrics = {
            **pair_metrics(scores, rows, (beta * chosen, beta * rejected), (chosen, rejected)),
            "nll_loss": (nll, scores["label_counts"][0].sum()),
            "log_odds_ratio": ((odds.log_sigmoid * real).sum(), real.sum()),
            "log_odds_chosen": ((odds.log_odds * real).sum(), real.sum()),
        }
        return {"nll": nll, "odds": (odds.losses * real).sum()}, metrics, extras
