"""`GRPOTrainer`: what users make and call."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, final

from easydel_models.generation.engine import GenerationEngine

from easydel_trainers.algorithms.grpo.algorithm import GRPO, AnyReward, checked_rewards
from easydel_trainers.algorithms.grpo.config import GRPOConfig
from easydel_trainers.run.callbacks import Callback
from easydel_trainers.trainer import Trainer
from easydel_trainers.trl.arguments import accepts_trl_arguments


@final
class GRPOTrainer(Trainer[GRPOConfig]):
    """Trains a causal language model on its own answers, each judged by the others to the same prompt.

    Args:
        model: see `Trainer`, as all that is not explained here.
        arguments: the config; `None` = all defaults.
        reward_funcs: one or several of: a function or coroutine function of `prompts`, `completions`,
            `completion_ids` and every other column of the data, by name, each a list with one entry for each
            completion, which returns a list of numbers, `None` where it has nothing to say; or a reward model: a
            `SequenceClassifier`, or the folder, Hub id or `.gguf` file of one.
        reference_model: what `beta` holds the policy to: a model, or a folder, Hub id or `.gguf` file. `None` = the
            policy as it is before training, adapters that it came with included. It must know the same tokens.
        engine: who writes the completions. `None` = the model itself, in this process.
        processing_class: the tokenizer.
        train_dataset: rows to train on.
        eval_dataset: rows held out.
        callbacks: told of the run.
    """

    @accepts_trl_arguments
    def __init__(
        self,
        model: Any,
        arguments: GRPOConfig | None = None,
        *,
        reward_funcs: AnyReward | Sequence[AnyReward] = (),
        reference_model: Any = None,
        engine: GenerationEngine | None = None,
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
            algorithm=partial(
                GRPO, reward_funcs=checked_rewards(reward_funcs), reference_model=reference_model, engine=engine
            ),
        )

    @classmethod
    def algorithm_type(cls) -> type[GRPO]:
        """See `Trainer`."""
        return GRPO
