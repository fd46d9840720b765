"""Supervised fine-tuning: one forward pass, a fused head, a loss over trained tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from easydata_sources import CountingTransform
from easydel_models.parameters import join_params
from easydel_transforms import SFTPreprocessTransform

from easydel_trainers.algorithm import Algorithm
from easydel_trainers.algorithms.sft.config import SFTConfig
from easydel_trainers.algorithms.sft.loss import sft_loss
from easydel_trainers.data.batch_rules import RowUse, counting
from easydel_trainers.data.layout import StepLayout
from easydel_trainers.data.packed_rows import PackedRows
from easydel_trainers.data.training_data import TrainingData
from easydel_trainers.model.loading import load_causal_lm
from easydel_trainers.row_steps import RowSteps
from easydel_trainers.step.forward import training_pass
from easydel_trainers.step.metrics import Ratios, Terms
from easydel_trainers.step.objective import Batch, Params
from easydel_trainers.step.program import Program
from easydel_trainers.step.router import router_part
from easydel_trainers.step.targets import trained_tokens


@final
class SFT(Algorithm[SFTConfig]):
    """Text, conversations or prompt/completion rows, each trained on by itself or packed with others."""

    config_type = SFTConfig

    def transform(self, use: RowUse) -> CountingTransform:
        """Returns rows of `input_ids` and `labels`; packs of them where the config asks for it."""
        config = self.config
        packs = use.training or config.eval_packing is None or config.eval_packing
        if use.alone or not (config.packing and packs):
            return self._row_transform(config.max_length)
        assert config.max_length is not None
        policy = config.packing_over_long or ("truncate" if config.packing_strategy == "bfd" else "split")
        # Cut to a pack's length before only if that is what happens to longer rows.
        return PackedRows(
            self._row_transform(config.max_length if policy == "truncate" else None),
            seq_length=config.max_length,
            strategy=config.packing_strategy,
            over_long=policy,
            shuffle_seed=use.shuffle_seed if use.training else None,
        )

    def layout(self, *, rows: int, micro_batches: int, parts: int) -> StepLayout:
        """Returns rows end to end, or each in a bin of its own."""
        config = self.config
        return StepLayout(
            micro_batches=micro_batches,
            rows=rows,
            padding_free=config.padding_free,
            parts=parts,
            buckets=config.length_buckets,
            multiple_of=config.pad_to_multiple_of,
            pad_left=config.padding_side == "left",
            pack_length=config.max_length if config.packing else None,
        )

    def load_model(self, model: Any) -> Any:
        """Returns a causal language model."""
        return load_causal_lm(model, self.config)

    def objective(self, structure: Any) -> SFTObjective:
        """Returns the SFT losses."""
        return SFTObjective(structure=structure, config=self.config)

    def step_source(self, data: TrainingData, program: Program) -> RowSteps:
        """Returns the rows themselves."""
        return RowSteps(data, program)

    def _row_transform(self, max_length: int | None) -> SFTPreprocessTransform:
        config = self.config
        return SFTPreprocessTransform(
            tokenizer=self.tokenizer,
            max_length=max_length,
            completion_only_loss=config.completion_only_loss,
            assistant_only_loss=config.assistant_only_loss,
            dataset_text_field=config.dataset_text_field,
            **counting(config),
        )


@final
@dataclass(frozen=True, kw_only=True)
class SFTObjective:
    """The SFT loss of a model of some structure."""

    structure: Any
    config: SFTConfig

    def weights(self, batch: Batch) -> Terms:
        """Returns the number of trained tokens."""
        return {"loss": trained_tokens(batch["labels"])}

    def loss(self, params: Params, batch: Batch) -> tuple[Terms, Ratios]:
        """Returns the loss sum of one micro-batch and its metrics."""
        model = join_params(self.structure, params)
        decoded = model.decoded(
            batch["input_ids"],
            segment_ids=batch["segment_ids"],
            **training_pass(self.config, batch),
        )
        loss_sum, ratios = sft_loss(
            decoded.hidden,
            model.linear_head(),
            batch["labels"],
            loss_type=self.config.loss_type,
            label_smoothing_factor=self.config.label_smoothing_factor,
        )
        router = {name: part.sum() for name, part in router_part(self.config, model, decoded, batch).items()}
        return {"loss": loss_sum, **router}, ratios
