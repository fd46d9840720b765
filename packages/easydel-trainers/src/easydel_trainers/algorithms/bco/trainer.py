"""Binary classifier optimisation: single completions, each good or bad, against a running mean of their rewards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, final

import jax.numpy as jnp
from easydel_transforms import BCOPreprocessTransform

from easydel_trainers.algorithms.bco.config import BCOConfig
from easydel_trainers.algorithms.bco.density import Embed, PromptDensity
from easydel_trainers.algorithms.bco.loss import RunningMean, bco_losses, moved
from easydel_trainers.data.groups import Group
from easydel_trainers.metrics import Ratios, Terms
from easydel_trainers.output import TrainOutput
from easydel_trainers.preference.objective import CausalObjective, unpaired_metrics
from easydel_trainers.preference.referenced_trainer import ReferencedTrainer
from easydel_trainers.preference.unpaired import unpaired_groups
from easydel_trainers.step import Batch, Extras, Scores


@final
class BCOTrainer(ReferencedTrainer[BCOConfig]):
    """Fine-tunes a causal language model on completions that are desirable or not.

    Args:
        model: see `Trainer`.
        arguments: see `Trainer`.
        embedding_func: from the texts of some prompts to their embeddings `[prompts, dim]`. With it, undesirable
            completions are weighted by how likely their prompts are among the desirable rows (underlying distribution
            matching); needs the extra `udm`.
        options: `reference_model`, and the others of `Trainer`.
    """

    _sequences = 1

    def __init__(
        self, model: Any, arguments: BCOConfig | None = None, *, embedding_func: Embed | None = None, **options: Any
    ):
        super().__init__(model, arguments, **options)
        config = self.arguments
        self._density = None
        if embedding_func is not None:
            bounds = (config.min_density_ratio, config.max_density_ratio)
            self._density = PromptDensity(embedding_func, self._prompt_texts, bounds=bounds, seed=config.seed)

    def train(self, resume_from_checkpoint: Literal[True] | None = None) -> TrainOutput:
        """See `Trainer.train`; with an `embedding_func` its classifier is fitted first."""
        self._fit_density()
        return super().train(resume_from_checkpoint)

    def evaluate(self, dataset: Any = None) -> dict[str, float]:
        """See `Trainer.evaluate`."""
        self._fit_density()
        return super().evaluate(dataset)

    def _default_config(self) -> BCOConfig:
        return BCOConfig()

    def _make_transform(self) -> BCOPreprocessTransform:
        return BCOPreprocessTransform(tokenizer=self.processing_class, **self._row_options())

    def _make_objective(self, structure: Any) -> BCOObjective:
        return BCOObjective(structure=structure, config=self.arguments)

    def _groups(self, rows: Sequence[Any]) -> list[Group]:
        groups = unpaired_groups(rows)
        density = getattr(self, "_density", None)
        if density is None or not density.fitted:
            return groups
        weights = density.weights(rows)
        return [
            replace(group, values={**group.values, "density_weight": float(weight)})
            for group, weight in zip(groups, weights, strict=True)
        ]

    def _fit_density(self) -> None:
        if self._density is not None and not self._density.fitted and self._rows.train is not None:
            # One epoch: a run may repeat its rows without end, and a class may never have as many as are asked for.
            rows = self._rows.once(self._rows.train, self._make_transform(), shuffle_seed=self._rows.shuffle_seed)
            self._density.fit(rows, per_class=self.arguments.prompt_sample_size)

    def _prompt_texts(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        return [self.processing_class.decode(row["prompt_ids"], skip_special_tokens=True) for row in rows]


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
        """Rows."""
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
