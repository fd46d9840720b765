"""`BCOTrainer`: what users make and call."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, final

from easydel_trainers.algorithms.bco.algorithm import BCO
from easydel_trainers.algorithms.bco.config import BCOConfig
from easydel_trainers.algorithms.bco.density import Embed
from easydel_trainers.run.callbacks import Callback
from easydel_trainers.trainer import Trainer
from easydel_trainers.trl.arguments import accepts_trl_arguments


@final
class BCOTrainer(Trainer[BCOConfig]):
    """Fine-tunes a causal language model on completions that are desirable or not.

    Args:
        model: see `Trainer`, as all that is not explained here.
        arguments: the config; `None` = all defaults.
        reference_model: what the policy is compared with: a model, or a folder, Hub id or `.gguf` file. `None` = the
            policy as it is before training, adapters that it came with included. It must know the same tokens.
        embedding_func: from the texts of some prompts to their embeddings `[prompts, dim]`. With it, undesirable
            completions are weighted by how likely their prompts are among the desirable rows (underlying distribution
            matching); needs the extra `udm`.
        processing_class: the tokenizer.
        train_dataset: rows to train on.
        eval_dataset: rows held out.
        callbacks: told of the run.
    """

    @accepts_trl_arguments
    def __init__(
        self,
        model: Any,
        arguments: BCOConfig | None = None,
        *,
        reference_model: Any = None,
        embedding_func: Embed | None = None,
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
            algorithm=partial(BCO, reference_model=reference_model, embedding_func=embedding_func),
        )

    @classmethod
    def algorithm_type(cls) -> type[BCO]:
        """See `Trainer`."""
        return BCO
