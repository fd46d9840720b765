"""Binary classifier optimisation: single completions, each good or bad, against a running mean of their rewards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, final

import jax.numpy as jnp
from easydel_transforms import BCOPreprocessTransform

from easydel_trainers.algorithm import Algorithm
from easydel_trainers.algorithms.bco.config import BCOConfig
from easydel_trainers.algorithms.bco.density import Embed, PromptDensity
from easydel_trainers.algorithms.bco.loss import RunningMean, bco_losses, moved
from easydel_trainers.data.batch_rules import RowUse
from easydel_trainers.data.step_rows import SequenceLayout, StepRow
from easydel_trainers.data.training_data import TrainingData
from easydel_trainers.model.loading import load_causal_lm
from easydel_trainers.preference.layout import preference_layout, row_options
from easydel_trainers.preference.objective import CausalObjective, unpaired_metrics
from easydel_trainers.preference.unpaired import unpaired_step_rows
from easydel_trainers.reference.reference import Reference, ScoredRows
from easydel_trainers.row_steps import RowSteps
from easydel_trainers.step.metrics import Ratios, Terms
from easydel_trainers.step.objective import Batch, Extras, Scores
from easydel_trainers.step.program import Program


@final
class BCO(Algorithm[BCOConfig]):
    """Completions that are desirable or not, compared with a reference model and a running mean of rewards.

    Args:
        config: its options.
        tokenizer: of the rows.
        reference_model: see `Reference`.
        embedding_func: from the texts of some prompts to their embeddings `[prompts, dim]`. With it, undesirable
            completions are weighted by how likely their prompts are among the desirable rows.
    """

    config_type = BCOConfig

    def __init__(
        self, config: BCOConfig, tokenizer: Any, *, reference_model: Any = None, embedding_func: Embed | None = None
    ):
        super().__init__(config, tokenizer)
        scored = ScoredRows(
            sequences=1,
            step_rows=unpaired_step_rows,
            layout=lambda rows, parts: self._layout(rows=rows, parts=parts),
        )
        self._reference = Reference(config, reference_model, scored)
        self.density: PromptDensity | None = None
        """What weighs undesirable completions, once it was fitted."""
        if embedding_func is not None:
            bounds = (config.min_density_ratio, config.max_density_ratio)
            self.density = PromptDensity(embedding_func, self._prompt_texts, bounds=bounds, seed=config.seed)

    def transform(self, use: RowUse) -> BCOPreprocessTransform:
        """Returns rows of `prompt_ids`, `completion_ids` and `label`."""
        return BCOPreprocessTransform(tokenizer=self.tokenizer, **row_options(self.config))

    def layout(self, *, rows: int, micro_batches: int, parts: int) -> SequenceLayout:
        """Returns one sequence a row."""
        return self._layout(rows=rows, micro_batches=micro_batches, parts=parts, complete=self._reference.complete)

    def load_model(self, model: Any) -> Any:
        """Returns a causal language model."""
        return load_causal_lm(model, self.config)

    def objective(self, structure: Any) -> BCOObjective:
        """Returns the BCO loss."""
        return BCOObjective(structure=structure, config=self.config)

    def step_source(self, data: TrainingData, program: Program) -> RowSteps:
        """Returns the rows themselves, and the reference's scores of them."""
        self._reference.load(program)
        return RowSteps(data, program, reference=self._reference, fit=partial(self.fit_density, data))

    def fit_density(self, data: TrainingData) -> None:
        """Fit the classifier of prompts, if there is to be one and it was not fitted."""
        if self.density is not None and not self.density.fitted and data.train is not None:
            # One epoch: a run may repeat its rows without end, and a class may never have as many as are asked for.
            rows = data.once(data.train, data.training_transform(), shuffle_seed=data.shuffle_seed)
            self.density.fit(rows, per_class=self.config.prompt_sample_size)

    def _layout(self, **how: Any) -> SequenceLayout:
        return preference_layout(self.config, self.tokenizer, sequences=1, to_step_rows=self._weighted_step_rows, **how)

    def _weighted_step_rows(self, rows: Sequence[Any]) -> list[StepRow]:
        step_rows = unpaired_step_rows(rows)
        if self.density is None or not self.density.fitted:
            return step_rows
        weights = self.density.weights(rows)
        return [
            replace(step_row, values={**step_row.values, "density_weight": float(weight)})
            for step_row, weight in zip(step_rows, weights, strict=True)
        ]

    def _prompt_texts(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        return [self.tokenizer.decode(row["prompt_ids"], skip_special_tokens=True) for row in rows]


@final
@dataclass(frozen=True, kw_only=True)
class BCOObjective(CausalObjective):
    """The BCO loss of a model of some structure; its extras are the running mean of rewards."""

    config: BCOConfig

    @property
    def coupled(self) -> bool:
        """The reward shift is a mean over all rows of the step, and of those before."""
        return True

    @property
    def sequences(self) -> int:
        """The completion."""
        return 1

    def initial_extras(self) -> Extras:
        """No reward so far."""
        return RunningMean(jnp.float32(0), jnp.float32(0))._asdict()

    def weights(self, batch: Batch) -> Terms:
        """Returns rows."""
        return {"loss": batch["rows"]["real"].sum()}

    def score_loss(
        self, scores: Scores, rows: Scores, extras: Extras, *, training: bool
    ) -> tuple[Terms, Ratios, Extras]:
        """See `ScoredObjective`."""
        real = rows["real"]
        rewards = self.config.beta * (scores["logps"][0] - rows["reference_logps"][0])
        running = RunningMean(**extras)
        if training:
            running = moved(running, rewards, real)
        weights = rows.get("density_weight", jnp.ones_like(real))
        losses = bco_losses(rewards, rows["label"], running.mean, weights)
        metrics = unpaired_metrics(scores, rows, rewards)
        metrics["delta"] = (running.mean * real.sum(), real.sum())
        return {"loss": (losses * real).sum()}, metrics, running._asdict()
