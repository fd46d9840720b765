"""Contrastive preference optimisation: both answers under the policy alone, and the chosen one's likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import jax.numpy as jnp
from easydel_transforms import CPOPreprocessTransform

from easydel_trainers.algorithm import Algorithm
from easydel_trainers.algorithms.cpo.config import CPOConfig
from easydel_trainers.algorithms.cpo.loss import AVERAGING, cpo_losses
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
class CPO(Algorithm[CPOConfig]):
    """Pairs of a chosen and a rejected answer, without a reference model."""

    config_type = CPOConfig

    def transform(self, use: RowUse) -> CPOPreprocessTransform:
        """Returns pairs as `prompt_ids`, `chosen_ids` and `rejected_ids`."""
        return CPOPreprocessTransform(tokenizer=self.tokenizer, **row_options(self.config))

    def layout(self, *, rows: int, micro_batches: int, parts: int) -> Layout:
        """Returns two sequences a row."""
        return preference_layout(
            self.config,
            self.tokenizer,
            rows=rows,
            sequences=2,
            to_step_rows=pair_step_rows,
            micro_batches=micro_batches,
            parts=parts,
        )

    def load_model(self, model: Any) -> Any:
        """Returns a causal language model."""
        return load_causal_lm(model, self.config)

    def objective(self, structure: Any) -> CPOObjective:
        """Returns the CPO loss."""
        return CPOObjective(structure=structure, config=self.config)

    def step_source(self, data: TrainingData, program: Program) -> RowSteps:
        """Returns the rows themselves."""
        return RowSteps(data, program)


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
        """Returns pairs; for the likelihood, tokens of the chosen answers."""
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
