"""Supervised fine-tuning: one forward pass, a fused head, a loss over trained tokens."""

from __future__ import annotations

import copy
import itertools
import logging
from dataclasses import dataclass
from typing import Any, final

from easydata_mix import MixedShardedSource
from easydata_sources import CountingTransform
from easydel_models.parameters import join_params
from easydel_transforms import SFTPreprocessTransform

from easydel_trainers.algorithms.sft.config import SFTConfig
from easydel_trainers.algorithms.sft.loss import sft_loss
from easydel_trainers.causal_lm import load_causal_lm
from easydel_trainers.data.counted import counting
from easydel_trainers.data.layout import StepLayout
from easydel_trainers.data.packed_rows import PackedRows
from easydel_trainers.metrics import Ratios, Terms
from easydel_trainers.step import Batch, Objective, Params
from easydel_trainers.targets import trained_tokens
from easydel_trainers.trainer import Trainer

_LOG = logging.getLogger(__name__)


@final
class SFTTrainer(Trainer[SFTConfig]):
    """Fine-tunes a causal language model on text, conversations or prompt/completion rows."""

    _packs: int | None = None
    """Packs of a whole run, once they were counted."""

    def _default_config(self) -> SFTConfig:
        return SFTConfig()

    def _make_transform(self) -> SFTPreprocessTransform:
        return self._row_transform(self.arguments.max_length)

    def _make_training_transform(self) -> CountingTransform:
        config = self.arguments
        return self._packed(self._rows.shuffle_seed) if config.packing else self._make_transform()

    def _make_eval_transform(self) -> CountingTransform:
        config = self.arguments
        packed = config.packing if config.eval_packing is None else config.eval_packing
        return self._packed(None) if packed else self._make_transform()

    def _packed(self, shuffle_seed: int | None) -> PackedRows:
        """Rows packed to `max_length` tokens; cut to it before only if that is what happens to longer ones."""
        config = self.arguments
        assert config.max_length is not None
        policy = config.packing_over_long or ("truncate" if config.packing_strategy == "bfd" else "split")
        return PackedRows(
            self._row_transform(config.max_length if policy == "truncate" else None),
            seq_length=config.max_length,
            strategy=config.packing_strategy,
            over_long=policy,
            shuffle_seed=shuffle_seed,
        )

    def _row_transform(self, max_length: int | None) -> SFTPreprocessTransform:
        config = self.arguments
        return SFTPreprocessTransform(
            tokenizer=self.processing_class,
            max_length=max_length,
            completion_only_loss=config.completion_only_loss,
            assistant_only_loss=config.assistant_only_loss,
            dataset_text_field=config.dataset_text_field,
            **counting(config),
        )

    def _load_model(self, model: Any) -> Any:
        return load_causal_lm(model, self.arguments)

    def _make_objective(self, structure: Any) -> Objective:
        return SFTObjective(structure=structure, config=self.arguments)

    def _layout(self, *, rows: int, micro_batches: int) -> StepLayout:
        return StepLayout(
            micro_batches=micro_batches,
            lines=rows,
            padding_free=self.arguments.padding_free,
            parts=self._row_parts,
            ladder=self.arguments.length_buckets,
            multiple_of=self.arguments.pad_to_multiple_of,
            pad_left=self.arguments.padding_side == "left",
            pack_length=self.arguments.max_length if self.arguments.packing else None,
        )

    def _rows_of_a_run(self, *, exactly: bool) -> int | None:
        if not self.arguments.packing:
            return super()._rows_of_a_run(exactly=exactly)
        if super()._rows_of_a_run(exactly=False) is None:
            return None
        if self._packs is not None:
            return self._packs
        _LOG.info("Reading the data once to count its packs; max_training_steps makes that needless.")
        transform = self._make_training_transform()
        packs = sum(1 for _ in self._rows.in_order(transform))
        transform.report.check(final=True)
        self._packs = packs
        return packs

    def _source_rows_per_step(self, source: MixedShardedSource) -> int:
        rows = self.arguments.total_batch_size
        if not (self.arguments.packing and source.counts_steps):
            return rows
        probe = copy.copy(source)
        probe.bind(rows_per_step=rows)
        transform = self._make_training_transform()
        window = list(itertools.islice(probe.rows(), transform.batch_rows))
        packs = sum(map(len, transform.transform_batch(window)))
        rows = max(1, round(rows * len(window) / max(packs, 1)))
        _LOG.info("The mixture's schedule counts steps: by its first %d rows, one of %d rows.", len(window), rows)
        return rows


@final
@dataclass(frozen=True, kw_only=True)
class SFTObjective:
    """The SFT loss of a model of some structure."""

    structure: Any
    config: SFTConfig

    def weights(self, batch: Batch) -> Terms:
        """Number of trained tokens."""
        return {"loss": trained_tokens(batch["labels"])}

    def loss(self, params: Params, batch: Batch) -> tuple[Terms, Ratios]:
        """Loss sum of one micro-batch and its metrics."""
        model = join_params(self.structure, params)
        hidden = model.hidden(
            batch["input_ids"],
            segment_ids=batch["segment_ids"],
            longest_segment=self.config.max_length,
            remat=self.config.gradient_checkpointing,
            dropout_key=batch.get("dropout_key"),
        )
        loss_sum, ratios = sft_loss(
            hidden,
            model.linear_head(),
            batch["labels"],
            loss_type=self.config.loss_type,
            label_smoothing_factor=self.config.label_smoothing_factor,
        )
        return {"loss": loss_sum}, ratios
