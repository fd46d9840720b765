"""Reward modelling: the scores of a pair's two answers, and how far apart they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import jax.numpy as jnp
from easydel_models import SequenceClassifier
from easydel_models.parameters import join_params
from easydel_transforms import RewardPreprocessTransform

from easydel_trainers.algorithms.reward.config import RewardConfig
from easydel_trainers.algorithms.reward.loss import reward_losses
from easydel_trainers.classifier import load_reward_model
from easydel_trainers.data.counted import counting
from easydel_trainers.data.groups import Group, GroupLayout
from easydel_trainers.metrics import Maximum, Minimum, Ratios, Terms
from easydel_trainers.preference.pooled_scores import pooled_scores
from easydel_trainers.preference.sequences import pair_groups
from easydel_trainers.step import Batch, Extras, Params, ScoredObjective, Scores
from easydel_trainers.trainer import Trainer


@final
class RewardTrainer(Trainer[RewardConfig]):
    """Trains a `SequenceClassifier` of one label to score the chosen answer of a pair above the rejected one."""

    def _default_config(self) -> RewardConfig:
        return RewardConfig()

    def _make_transform(self) -> RewardPreprocessTransform:
        config = self.arguments
        return RewardPreprocessTransform(
            tokenizer=self.processing_class, max_length=config.max_length, **counting(config)
        )

    def _load_model(self, model: Any) -> SequenceClassifier:
        return load_reward_model(model, self.arguments, pad_token_id=self._pad_token_id())

    def _make_objective(self, structure: Any) -> RewardObjective:
        return RewardObjective(structure=structure, config=self.arguments)

    def _layout(self, *, rows: int, micro_batches: int) -> GroupLayout:
        return GroupLayout(
            micro_batches=micro_batches,
            rows=rows,
            sequences=2,
            padding_free=self.arguments.padding_free,
            parts=self._row_parts,
            group=_groups,
            ladder=self.arguments.length_buckets,
            multiple_of=self.arguments.pad_to_multiple_of,
            pad_token_id=self._pad_token_id() or 0,
        )

    def _pad_token_id(self) -> int | None:
        return getattr(self.processing_class, "pad_token_id", None)


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
        """Pairs."""
        return {"loss": batch["rows"]["real"].sum()}

    def scores(self, params: Params, batch: Batch) -> Scores:
        """The score of every answer, `[2, rows]`."""
        model = join_params(self.structure, params)
        how = {
            "longest_segment": self.config.max_length,
            "remat": self.config.gradient_checkpointing,
            "dropout_key": batch.get("dropout_key"),
        }
        return {"rewards": pooled_scores(model, batch, sequences=2, **how)}

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


def _groups(rows: Sequence[Any]) -> list[Group]:
    return pair_groups(rows)


def _least(rewards: Any, real: Any) -> Any:
    """The least reward of a pair that is there; a large number without one, to which nobody looks."""
    return jnp.where(real[None] > 0, rewards, jnp.finfo(rewards.dtype).max).min()
