"""Reward modelling: the scores of a pair's two answers, and how far apart they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import jax.numpy as jnp
from easydel_models import SequenceClassifier
from easydel_models.parameters import join_params
from easydel_transforms import RewardPreprocessTransform

from easydel_trainers.algorithm import Algorithm
from easydel_trainers.algorithms.reward.config import RewardConfig
from easydel_trainers.algorithms.reward.loss import reward_losses
from easydel_trainers.data.batch_rules import RowUse, counting
from easydel_trainers.data.layout import Layout
from easydel_trainers.data.step_rows import SequenceLayout
from easydel_trainers.data.training_data import TrainingData
from easydel_trainers.model.loading import load_reward_model
from easydel_trainers.preference.pooled_scores import pooled
from easydel_trainers.preference.sequences import pair_step_rows
from easydel_trainers.row_steps import RowSteps
from easydel_trainers.step.forward import training_pass
from easydel_trainers.step.metrics import Maximum, Minimum, Ratios, Terms
from easydel_trainers.step.objective import Batch, Extras, Params, ScoredObjective, Scores
from easydel_trainers.step.program import Program
from easydel_trainers.step.router import router_part


@final
class Reward(Algorithm[RewardConfig]):
    """Pairs, whose chosen answer a `SequenceClassifier` of one label is to score above the rejected one."""

    config_type = RewardConfig

    def transform(self, use: RowUse) -> RewardPreprocessTransform:
        """Returns pairs as `prompt_ids`, `chosen_ids` and `rejected_ids`."""
        config = self.config
        return RewardPreprocessTransform(tokenizer=self.tokenizer, max_length=config.max_length, **counting(config))

    def layout(self, *, rows: int, micro_batches: int, parts: int) -> Layout:
        """Returns two sequences a row."""
        return SequenceLayout(
            micro_batches=micro_batches,
            rows=rows,
            sequences=2,
            padding_free=self.config.padding_free,
            parts=parts,
            to_step_rows=pair_step_rows,
            buckets=self.config.length_buckets,
            multiple_of=self.config.pad_to_multiple_of,
            pad_token_id=self._pad_token_id or 0,
        )

    def load_model(self, model: Any) -> SequenceClassifier:
        """Returns a classifier of one label; a language model is given a fresh head."""
        return load_reward_model(model, self.config, pad_token_id=self._pad_token_id)

    def objective(self, structure: Any) -> RewardObjective:
        """Returns the reward loss."""
        return RewardObjective(structure=structure, config=self.config)

    def step_source(self, data: TrainingData, program: Program) -> RowSteps:
        """Returns the rows themselves."""
        return RowSteps(data, program)

    @property
    def _pad_token_id(self) -> int | None:
        return getattr(self.tokenizer, "pad_token_id", None)


@final
@dataclass(frozen=True, kw_only=True)
class RewardObjective(ScoredObjective):
    """The reward loss of a model of some structure."""

    structure: Any
    config: RewardConfig

    @property
    def coupled(self) -> bool:
        """No pair looks at another one."""
        return False

    def weights(self, batch: Batch) -> Terms:
        """Returns pairs."""
        return {"loss": batch["rows"]["real"].sum()}

    def scores(self, params: Params, batch: Batch) -> Scores:
        """Returns the score of every answer, `[2, rows]`."""
        model = join_params(self.structure, params)
        how = training_pass(self.config, batch)
        decoded = model.decoded(batch["input_ids"], segment_ids=batch["segment_ids"], **how)
        rewards = pooled(model, batch, decoded.hidden, sequences=2)
        return {"rewards": rewards, **router_part(self.config, model, decoded, batch)}

    def score_loss(
        self, scores: Scores, rows: Scores, extras: Extras, *, training: bool
    ) -> tuple[Terms, Ratios, Extras]:
        """See `ScoredObjective`."""
        real, rewards = rows["real"], scores["rewards"]
        chosen, rejected = rewards
        losses = reward_losses(
            chosen, rejected, rows["margin"], center_rewards_coefficient=self.config.center_rewards_coefficient
        )
        pairs, any_pair = real.sum(), jnp.minimum(real.sum(), 1)
        metrics = {
            "accuracy": (((chosen > rejected) * real).sum(), pairs),
            "margin": (((chosen - rejected) * real).sum(), pairs),
            "mean_reward": ((rewards * real[None]).sum(), 2 * pairs),
            "min_reward": Minimum(_least(rewards, real), any_pair),
            "max_reward": Maximum(-_least(-rewards, real), any_pair),
        }
        return {"loss": (losses * real).sum()}, metrics, extras


def _least(rewards: Any, real: Any) -> Any:
    """Returns the least reward of a pair that is there; a large number without one, to which nobody looks."""
    return jnp.where(real[None] > 0, rewards, jnp.finfo(rewards.dtype).max).min()
