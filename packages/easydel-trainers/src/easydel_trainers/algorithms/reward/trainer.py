"""`RewardTrainer`: what users make and call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from easydel_trainers.algorithms.reward.algorithm import Reward
from easydel_trainers.algorithms.reward.config import RewardConfig
from easydel_trainers.run.callbacks import Callback
from easydel_trainers.trainer import Trainer
from easydel_trainers.trl.arguments import accepts_trl_arguments


@final
class RewardTrainer(Trainer[RewardConfig]):
    """Trains a `SequenceClassifier` of one label to score the chosen answer of a pair above the rejected one.

    Args:
        model: see `Trainer`, as all that is not explained here.
        arguments: the config; `None` = all defaults.
        processing_class: the tokenizer.
        train_dataset: rows to train on.
        eval_dataset: rows held out.
        callbacks: told of the run.
    """

    @accepts_trl_arguments
    def __init__(
        self,
        model: Any,
        arguments: RewardConfig | None = None,
        *,
        processing_class: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        callbacks: Sequence[Callback] = (),
    ):
        super().__init__(
            model,
            arguments,
            processing_class=processing_class,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            callbacks=callbacks,
        )

    @classmethod
    def algorithm_type(cls) -> type[Reward]:
        """See `Trainer`."""
        return Reward
