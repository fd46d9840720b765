"""A classifier as a reward function: it scores prompt and completion as `RewardTrainer` trains it to."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any, final

import jax
import numpy as np
from easydata_tokenize import load_tokenizer
from easydel_models import SequenceClassifier
from easydel_models.files.hub import looks_like_hub_id
from easydel_models.parameters import join_params, split_params
from easydel_transforms import RewardPreprocessTransform

from easydel_trainers.config import TrainerConfig
from easydel_trainers.data.step_rows import SequenceLayout, StepRow
from easydel_trainers.errors import ConfigError
from easydel_trainers.model.loading import load_reward_model
from easydel_trainers.preference.pooled_scores import pooled_scores
from easydel_trainers.step.objective import Batch, Params


@final
class RewardModel:
    """Scores completions with a model that was trained to.

    Args:
        model: a `SequenceClassifier` of one label, or the folder, Hub id or `.gguf` file of one.
        tokenizer: of a model that was given as an object; one given by name brings its own.
        config: names the types that the model computes in.
    """

    def __init__(self, model: SequenceClassifier | str | PathLike[str], tokenizer: Any, config: TrainerConfig):
        named = isinstance(model, str | PathLike)
        tokenizer = load_tokenizer(model) if named else tokenizer
        self.__name__ = Path(fspath(model)).name if named else type(model).__name__
        pad_token_id = getattr(tokenizer, "pad_token_id", None)
        model = load_reward_model(model, config, pad_token_id=pad_token_id, fresh_head=False)
        self._vocab_size = model.config.vocab_size
        structure, self._params = split_params(model)
        self._transform = RewardPreprocessTransform(tokenizer)
        self._pad_token_id = pad_token_id or 0

        def scores(params: Params, batch: Batch) -> jax.Array:
            only = jax.tree.map(lambda array: array[0], batch)
            return pooled_scores(join_params(structure, params), only, sequences=1)

        self._scores = jax.jit(scores)

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any]) -> list[float | None]:
        """Returns the score of every completion; `None` for one that has no token at all."""
        rows = [
            {"prompt": prompt, "chosen": completion, "rejected": completion}
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
        encoded = self._transform.transform_batch(rows)
        step_rows = [_step_row(number, row) for number, found in enumerate(encoded) for row in found]
        largest = max((int(step_row.sequences[0]["input_ids"].max()) for step_row in step_rows), default=0)
        if largest >= self._vocab_size:
            raise ConfigError(
                "reward_funcs",
                self.__name__,
                f"a reward model that knows the token {largest}; it knows 0 to {self._vocab_size - 1}. Give it by "
                "name, so that it brings its own tokenizer",
            )
        if not step_rows:
            return [None] * len(rows)
        layout = SequenceLayout(
            micro_batches=1,
            rows=len(rows),
            sequences=1,
            padding_free=True,
            to_step_rows=lambda rows: rows,
            pad_token_id=self._pad_token_id,
        )
        arrays = layout.arrange_step_rows(step_rows)
        numbers = arrays["rows"]["number"][0].astype(int)[: len(step_rows)]
        scores = np.asarray(self._scores(self._params, jax.device_put(arrays)))[0]
        rewards: list[float | None] = [None] * len(rows)
        for index, number in enumerate(numbers):
            rewards[number] = float(scores[index])
        return rewards


def require_model(name: str | PathLike[str]) -> None:
    """Refuses a name behind which no reward model can be; nothing is fetched.

    Raises:
        ConfigError: saying how functions are given.
    """
    if (
        str(name).startswith("package://")
        or Path(name).expanduser().exists()
        or (looks_like_hub_id(str(name)) and not str(name).endswith(".py"))
    ):
        return
    raise ConfigError(
        "reward_funcs",
        str(name),
        "a function, or the folder, Hub id (organisation/model) or .gguf file of a reward model. A function is given "
        "as itself here, and on the command line as MODULE:FUNCTION or PATH.py:FUNCTION",
    )


def _step_row(number: int, row: dict[str, Any]) -> StepRow:
    ids = np.concatenate([row["prompt_ids"], row["chosen_ids"]])
    return StepRow(sequences=({"input_ids": ids},), values={"number": number})
