"""Kahneman-Tversky optimisation: single completions, each good or bad, against a KL estimate of the whole step."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import jax
import jax.numpy as jnp
from easydel_models.parameters import join_params
from easydel_transforms import KTOPreprocessTransform

from easydel_trainers.algorithms.kto.config import KTOConfig
from easydel_trainers.algorithms.kto.loss import kl_baseline, kto_losses
from easydel_trainers.data.groups import Group
from easydel_trainers.data.layout import Layout
from easydel_trainers.metrics import Ratios, Terms
from easydel_trainers.output import TrainOutput
from easydel_trainers.preference.class_balance import balance_advice
from easydel_trainers.preference.objective import DESIRABLE_SHARE, CausalObjective, unpaired_metrics
from easydel_trainers.preference.referenced_trainer import ReferencedTrainer
from easydel_trainers.preference.scores import sequence_logps
from easydel_trainers.preference.unpaired import PartneredLayout, partner_groups, unpaired_groups
from easydel_trainers.step import Batch, Extras, Params, Scores
from easydel_trainers.training_run import TrainingRun

_LOG = logging.getLogger(__name__)
_ENOUGH = 1000  # rows after which the shares are taken as known


@final
class KTOTrainer(ReferencedTrainer[KTOConfig]):
    """Fine-tunes a causal language model on completions that are desirable or not."""

    _sequences = 1
    _advised = False

    def _default_config(self) -> KTOConfig:
        return KTOConfig()

    def _make_transform(self) -> KTOPreprocessTransform:
        return KTOPreprocessTransform(tokenizer=self.processing_class, **self._row_options())

    def _make_objective(self, structure: Any) -> KTOObjective:
        return KTOObjective(structure=structure, config=self.arguments)

    def train(self, resume_from_checkpoint: Literal[True] | None = None) -> TrainOutput:
        """See `Trainer.train`."""
        self._advised = False
        return super().train(resume_from_checkpoint)

    def _groups(self, rows: Sequence[Any]) -> list[Group]:
        return unpaired_groups(rows)

    def _scored_groups(self, rows: Sequence[Any]) -> list[Group]:
        groups = unpaired_groups(rows)
        return [*groups, *partner_groups(rows, max_length=self.arguments.max_length)] if self._mismatches else groups

    @property
    def _mismatches(self) -> bool:
        """Whether the loss needs completions that belong to other prompts."""
        return self.arguments.loss_type == "kto"

    @property
    def _groups_depend_on_order(self) -> bool:
        return self._mismatches

    def _layout(self, *, rows: int, micro_batches: int) -> Layout:
        layout = self._group_layout(rows=rows, micro_batches=micro_batches)
        return PartneredLayout(layout=layout, max_length=self.arguments.max_length) if self._mismatches else layout

    def _annotate(self, batch: Batch, run: TrainingRun | None) -> Batch:
        batch = super()._annotate(batch, run)
        return {**batch, "partners": super()._annotate(batch["partners"], run)} if self._mismatches else batch

    def _after_step(self, run: TrainingRun) -> None:
        super()._after_step(run)
        if run.progress.overall.get(DESIRABLE_SHARE) is not None:
            self._advise_once(run, at_least=_ENOUGH)

    def _after_run(self, run: TrainingRun) -> None:
        self._advise_once(run, at_least=1)

    def _advise_once(self, run: TrainingRun, *, at_least: int) -> None:
        """Warn if the rows that were trained on, and no others, show that the weights are off."""
        counted = run.progress.overall.get(DESIRABLE_SHARE)
        desirable, rows = (0, 0) if counted is None else map(round, counted)
        if self._advised or rows < at_least:
            return
        self._advised, config = True, self.arguments
        advice = balance_advice(
            desirable,
            rows - desirable,
            desirable_weight=config.desirable_weight,
            undesirable_weight=config.undesirable_weight,
        )
        if advice is not None:
            _LOG.warning(advice)


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
        """Rows."""
        return {"loss": batch["rows"]["real"].sum()}

    def prepare(self, params: Params, batch: Batch) -> Batch:
        """The batch with the step's KL estimate as `rows["baseline"]`, in place of the mismatched sequences."""
        real = batch["rows"]["real"]
        if self.config.loss_type != "kto":
            return {**batch, "rows": {**batch["rows"], "baseline": jnp.zeros_like(real)}}
        batch = dict(batch)
        partners = batch.pop("partners")
        model = join_params(self.structure, params)
        longest = self.config.max_length
        logps = jax.lax.map(lambda part: sequence_logps(model, part, sequences=1, longest_segment=longest), partners)
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
