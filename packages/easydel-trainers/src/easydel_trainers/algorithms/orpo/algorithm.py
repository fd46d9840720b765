"""Odds ratio preference optimisation: likelihood of prompt and chosen answer, and the odds of both answers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, final

import jax.numpy as jnp
from easydel_transforms import ORPOPreprocessTransform

from easydel_trainers.algorithm import Algorithm
from easydel_trainers.algorithms.orpo.config import ORPOConfig
from easydel_trainers.algorithms.orpo.loss import orpo_losses
from easydel_trainers.data.batch_rules import RowUse
from easydel_trainers.data.layout import Layout
from easydel_trainers.data.training_data import TrainingData
from easydel_trainers.model.loading import load_causal_lm
from easydel_trainers.preference.layout import preference_layout, row_options
from easydel_trainers.preference.objective import CausalObjective, label_count, pair_metrics
from easydel_trainers.preference.sequences import pair_step_rows
from easydel_trainers.row_steps import RowSteps
from easydel_trainers.step.metrics import Ratios, Terms
from easydel_trainers.step.objective import Batch, Extras, Scores
from easydel_trainers.step.program import Program


@final
class ORPO(Algorithm[ORPOConfig]):
    """Pairs of a chosen and a rejected answer, without a reference model."""

    config_type = ORPOConfig

    def transform(self, use: RowUse) -> ORPOPreprocessTransform:
        """Returns pairs as `prompt_ids`, `chosen_ids` and `rejected_ids`."""
        return ORPOPreprocessTransform(tokenizer=self.tokenizer, **row_options(self.config))

    def layout(self, *, rows: int, micro_batches: int, parts: int) -> Layout:
        """Returns two sequences a row; prompts are trained too."""
        return preference_layout(
            self.config,
            self.tokenizer,
            rows=rows,
            sequences=2,
            to_step_rows=partial(pair_step_rows, train_prompt=True),
            micro_batches=micro_batches,
            parts=parts,
        )

    def load_model(self, model: Any) -> Any:
        """Returns a causal language model."""
        return load_causal_lm(model, self.config)

    def objective(self, structure: Any) -> ORPOObjective:
        """Returns the ORPO loss."""
        return ORPOObjective(structure=structure, config=self.config)

    def step_source(self, data: TrainingData, program: Program) -> RowSteps:
        """Returns the rows themselves."""
        return RowSteps(data, program)


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
        """Returns tokens of prompt and chosen answer for the likelihood, pairs for the odds."""
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
