"""Direct preference optimisation: the answers of a pair, scored by policy and reference, in one loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import jax.numpy as jnp
from easydel_transforms import DPOPreprocessTransform

from easydel_trainers.algorithm import Algorithm
from easydel_trainers.algorithms.dpo.config import DPOConfig
from easydel_trainers.algorithms.dpo.loss import SORTING, DPOOptions, Pairs, dpo_losses, policy_weights
from easydel_trainers.data.batch_rules import RowUse
from easydel_trainers.data.layout import Layout
from easydel_trainers.data.step_rows import SequenceLayout
from easydel_trainers.data.training_data import TrainingData
from easydel_trainers.model.loading import load_causal_lm
from easydel_trainers.preference.layout import preference_layout, row_options
from easydel_trainers.preference.objective import CausalObjective, label_count, pair_metrics
from easydel_trainers.preference.sequences import pair_step_rows
from easydel_trainers.reference.reference import Reference, ScoredRows
from easydel_trainers.row_steps import RowSteps
from easydel_trainers.step.metrics import Ratios, Terms
from easydel_trainers.step.objective import Batch, Extras, Scores
from easydel_trainers.step.program import Program

_SFT = "sft"


@final
class DPO(Algorithm[DPOConfig]):
    """Pairs of a chosen and a rejected answer, compared with a reference model.

    Args:
        config: its options.
        tokenizer: of the rows.
        reference_model: see `Reference`.
    """

    config_type = DPOConfig

    def __init__(self, config: DPOConfig, tokenizer: Any, *, reference_model: Any = None):
        super().__init__(config, tokenizer)
        scored = ScoredRows(
            sequences=2,
            step_rows=pair_step_rows,
            ld_alpha=config.ld_alpha,
            layout=lambda rows, parts: self._layout(rows=rows, parts=parts),
        )
        # Also where the loss is `sft` alone: the rewards that are shown are differences to the reference.
        self._reference = None if config.reference_free else Reference(config, reference_model, scored)

    def transform(self, use: RowUse) -> DPOPreprocessTransform:
        """Returns pairs as `prompt_ids`, `chosen_ids` and `rejected_ids`."""
        return DPOPreprocessTransform(tokenizer=self.tokenizer, **row_options(self.config))

    def layout(self, *, rows: int, micro_batches: int, parts: int) -> Layout:
        """Returns two sequences a row."""
        complete = None if self._reference is None else self._reference.complete
        return self._layout(rows=rows, micro_batches=micro_batches, parts=parts, complete=complete)

    def load_model(self, model: Any) -> Any:
        """Returns a causal language model."""
        return load_causal_lm(model, self.config)

    def objective(self, structure: Any) -> DPOObjective:
        """Returns the DPO losses."""
        return DPOObjective(structure=structure, config=self.config)

    def step_source(self, data: TrainingData, program: Program) -> RowSteps:
        """Returns the rows themselves, and the reference's scores of them."""
        if self._reference is not None:
            self._reference.load(program)
        return RowSteps(data, program, reference=self._reference)

    def _layout(self, **how: Any) -> SequenceLayout:
        return preference_layout(self.config, self.tokenizer, sequences=2, to_step_rows=pair_step_rows, **how)


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
        """Returns pairs; for `sft`, tokens of the chosen answers."""
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
