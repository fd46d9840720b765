"""`DPOTrainer`: what users make and call."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, final

from easydel_trainers.algorithms.dpo.algorithm import DPO
from easydel_trainers.algorithms.dpo.config import DPOConfig
from easydel_trainers.run.callbacks import Callback
from easydel_trainers.trainer import Trainer
from easydel_trainers.trl.arguments import accepts_trl_arguments


@final
class DPOTrainer(Trainer[DPOConfig]):
    """Fine-tunes a causal language model on pairs of a chosen and a rejected answer.

    Args:
        model: see `Trainer`, as all that is not explained here.
        arguments: the config; `None` = all defaults.
        reference_model: what the policy is compared with: a model, or a folder, Hub id or `.gguf` file. `None` = the
            policy as it is before training, adapters that it came with included. It must know the same tokens.
        processing_class: the tokenizer.
        train_dataset: rows to train on.
        eval_dataset: rows held out.
        callbacks: told of the run.
    """

    @accepts_trl_arguments
    def __init__(
        self,
        model: Any,
        arguments: DPOConfig | None = None,
        *,
        reference_model: Any = None,
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
            algorithm=partial(DPO, reference_model=reference_model),
        )

    @classmethod
    def algorithm_type(cls) -> type[DPO]:
        """See `Trainer`."""
        return DPO
