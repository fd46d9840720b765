"""Supervised fine-tuning: one forward pass, a fused head, a loss over trained tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from easydel_models.parameters import join_params
from easydel_transforms import SFTPreprocessTransform

from easydel_trainers.algorithms.sft.config import SFTConfig
from easydel_trainers.algorithms.sft.loss import sft_loss
from easydel_trainers.causal_lm import load_causal_lm
from easydel_trainers.data.layout import StepLayout
from easydel_trainers.metrics import Ratios, Terms
from easydel_trainers.step import Batch, Objective, Params
from easydel_trainers.targets import trained_tokens
from easydel_trainers.trainer import Trainer


@final
class SFTTrainer(Trainer[SFTConfig]):
    """Fine-tunes a causal language model on text, conversations or prompt/completion rows."""

    def _default_config(self) -> SFTConfig:
        return SFTConfig()

    def _make_transform(self) -> SFTPreprocessTransform:
        config = self.arguments
        return SFTPreprocessTransform(
            tokenizer=self.processing_class,
            max_length=config.max_length,
            completion_only_loss=config.completion_only_loss,
            assistant_only_loss=config.assistant_only_loss,
            dataset_text_field=config.dataset_text_field,
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
            ladder=self.arguments.length_buckets,
        )


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
            model.head_weights(),
            batch["labels"],
            loss_type=self.config.loss_type,
            label_smoothing_factor=self.config.label_smoothing_factor,
        )
        return {"loss": loss_sum}, ratios
