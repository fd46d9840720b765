"""What the trainers on preferences share beside the loop: pairs of rows in a layout, and a reference model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from easydel_models.attention import honours_prefixes

from easydel_trainers.causal_lm import load_causal_lm
from easydel_trainers.data.counted import counting
from easydel_trainers.data.groups import Group, GroupLayout
from easydel_trainers.data.layout import Layout
from easydel_trainers.preference.config import PreferenceConfig
from easydel_trainers.preference.sequences import PROMPT
from easydel_trainers.trainer import Trainer

Config = TypeVar("Config", bound=PreferenceConfig)


class PreferenceTrainer(Trainer[Config]):
    """Trains on rows that are groups of sequences. Abstract."""

    _sequences: int
    """Sequences of a row."""

    @abstractmethod
    def _groups(self, rows: Sequence[Any]) -> list[Group]:
        """A step's transformed rows as groups of sequences."""

    def _complete(self, groups: Sequence[Group]) -> Sequence[Group]:
        """The groups with what only training needs."""
        return groups

    def _training_batch_iterator(self) -> Iterator[dict[str, np.ndarray]]:
        """Whole batches of the training order as padded arrays, from the start; training does not advance.

        Each is `input_ids`, `attention_mask`, `labels` and `completion_mask`, int32 `[sequences * total_batch_size,
        length]`: the first sequences of all rows (the chosen ones of pairs), then the second ones (the rejected).
        """
        for batch in super()._training_batch_iterator():
            part = batch.pop("part")
            yield {**batch, "completion_mask": (part != PROMPT).astype(np.int32)}

    def _load_model(self, model: Any) -> Any:
        return load_causal_lm(model, self.arguments)

    def _layout(self, *, rows: int, micro_batches: int) -> Layout:
        return self._group_layout(rows=rows, micro_batches=micro_batches)

    def _group_layout(self, *, rows: int, micro_batches: int) -> GroupLayout:
        """How groups are arranged."""
        config = self.arguments
        return GroupLayout(
            micro_batches=micro_batches,
            rows=rows,
            sequences=self._sequences,
            padding_free=config.padding_free,
            share_prompts=honours_prefixes(config.attention),
            parts=self._row_parts,
            group=self._groups,
            complete=self._complete,
            ladder=config.length_buckets,
            multiple_of=config.pad_to_multiple_of,
            pad_token_id=self._pad_token_id(),
        )

    def _row_options(self) -> dict[str, Any]:
        """Lengths, how to cut to them, and what to count, as the transforms take them."""
        config = self.arguments
        return {
            **counting(config),
            "max_length": config.max_length,
            "max_prompt_length": config.max_prompt_length,
            "max_completion_length": config.max_completion_length,
            "keep_stop_token": config.keep_stop_token,
        }

    def _pad_token_id(self) -> int:
        if self.arguments.padding_value is not None:
            return self.arguments.padding_value
        return getattr(self.processing_class, "pad_token_id", None) or 0
