"""Kahneman-Tversky optimisation: single completions, each good or bad, against a KL estimate of the whole step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import jax
import jax.numpy as jnp
from easydel_models.parameters import join_params
from easydel_transforms import KTOPreprocessTransform

from easydel_trainers.algorithm import Algorithm
from easydel_trainers.algorithms.kto.balance_advice import BalanceAdvice
from easydel_trainers.algorithms.kto.config import KTOConfig
from easydel_trainers.algorithms.kto.loss import kl_baseline, kto_losses
from easydel_trainers.data.batch_rules import RowUse
from easydel_trainers.data.layout import Layout
from easydel_trainers.data.step_rows import SequenceLayout, StepRow
from easydel_trainers.data.training_data import TrainingData
from easydel_trainers.model.loading import load_causal_lm
from easydel_trainers.preference.layout import preference_layout, row_options
from easydel_trainers.preference.objective import CausalObjective, unpaired_metrics
from easydel_trainers.preference.scores import sequence_logps
from easydel_trainers.preference.unpaired import PartneredLayout, partner_step_rows, unpaired_step_rows
from easydel_trainers.reference.reference import Reference, ScoredRows
from easydel_trainers.row_steps import RowSteps
from easydel_trainers.step.forward import scoring_pass
from easydel_trainers.step.metrics import Ratios, Terms
from easydel_trainers.step.objective import Batch, Extras, Params, Scores
from easydel_trainers.step.program import Program


@final
class KTO(Algorithm[KTOConfig]):
    """Completions that are desirable or not, compared with a reference model and with other rows' completions.

    Args:
        config: its options.
        tokenizer: of the rows.
        reference_model: see `Reference`.
    """

    config_type = KTOConfig

    def __init__(self, config: KTOConfig, tokenizer: Any, *, reference_model: Any = None):
        super().__init__(config, tokenizer)
        self._mismatches = config.loss_type == "kto"  # whether the loss needs completions that belong to other prompts
        scored = ScoredRows(
            sequences=1,
            step_rows=self._scored_step_rows,
            ordered=self._mismatches,
            layout=lambda rows, parts: self._layout(rows=rows, parts=parts),
        )
        self._reference = Reference(config, reference_model, scored)

    def transform(self, use: RowUse) -> KTOPreprocessTransform:
        """Returns rows of `prompt_ids`, `completion_ids` and `label`."""
        return KTOPreprocessTransform(tokenizer=self.tokenizer, **row_options(self.config))

    def layout(self, *, rows: int, micro_batches: int, parts: int) -> Layout:
        """Returns one sequence a row, and the mismatched ones beside them where the loss needs those."""
        how = {"micro_batches": micro_batches, "parts": parts, "complete": self._reference.complete}
        layout = self._layout(rows=rows, **how)
        return PartneredLayout(layout=layout, max_length=self.config.max_length) if self._mismatches else layout

    def load_model(self, model: Any) -> Any:
        """Returns a causal language model."""
        return load_causal_lm(model, self.config)

    def objective(self, structure: Any) -> KTOObjective:
        """Returns the KTO loss."""
        return KTOObjective(structure=structure, config=self.config)

    def step_source(self, data: TrainingData, program: Program) -> RowSteps:
        """Returns the rows themselves, and the reference's scores of them."""
        self._reference.load(program)
        return RowSteps(data, program, reference=self._reference, callbacks=(BalanceAdvice(self.config),))

    def _scored_step_rows(self, rows: Sequence[Any]) -> list[StepRow]:
        partners = partner_step_rows(rows, max_length=self.config.max_length) if self._mismatches else []
        return [*unpaired_step_rows(rows), *partners]

    def _layout(self, **how: Any) -> SequenceLayout:
        return preference_layout(self.config, self.tokenizer, sequences=1, to_step_rows=unpaired_step_rows, **how)


@final
@dataclass(frozen=True, kw_only=True)
class KTOObjective(CausalObjective):
    """The KTO loss of a model of some structure."""

    config: KTOConfig

    @property
    def sequences(self) -> int:
        """The completion."""
        return 1

    def weights(self, batch: Batch) -> Terms:
        """Returns rows."""
        return {"loss": batch["rows"]["real"].sum()}

    def prepare(self, params: Params, batch: Batch) -> Batch:
        """Returns the batch with the step's KL estimate as `rows["baseline"]`, in place of the mismatched sequences."""
        real = batch["rows"]["real"]
        if self.config.loss_type != "kto":
            return {**batch, "rows": {**batch["rows"], "baseline": jnp.zeros_like(real)}}
        batch = dict(batch)
        partners = batch.pop("partners")
        model = join_params(self.structure, params)
        how = scoring_pass(self.config)
        logps = jax.lax.map(lambda part: sequence_logps(model, part, sequences=1, **how), partners)
        counted = partners["rows"]["partner"]
        log_ratios = (logps - partners["rows"]["reference_logps"])[:, 0]
        known = {"baseline": jnp.full_like(real, 1) * kl_baseline(log_ratios, counted), "partner": counted}
        return {**batch, "rows": {**batch["rows"], **known}}

    def score_loss(
        self, scores: Scores, rows: Scores, extras: Extras, *, training: bool
    ) -> tuple[Terms, Ratios, Extras]:
        """See `ScoredObjective`."""
        config, real = self.config, rows["real"]
        log_ratios = scores["logps"][0] - rows["reference_logps"][0]
        losses = kto_losses(
            log_ratios,
            rows["label"],
            rows["baseline"],
            loss_type=config.loss_type,
            beta=config.beta,
            desirable_weight=config.desirable_weight,
            undesirable_weight=config.undesirable_weight,
        )
        metrics = unpaired_metrics(scores, rows, config.beta * log_ratios)
        metrics["kl"] = ((rows["baseline"] * real).sum(), real.sum())
        if config.loss_type == "kto":
            metrics["kl_left_out"] = (real.sum() - rows["partner"].sum(), real.sum())
        return {"loss": (losses * real).sum()}, metrics, extras
