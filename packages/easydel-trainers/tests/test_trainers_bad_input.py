"""Rows that cannot be trained on: a clear error or a counted event, never a hang and never a loss of NaN."""

from __future__ import annotations

import math

import pytest
from easydata_sources import DataError, DataQualityError
from easydel_trainers import SFTConfig, SFTTrainer

NAN = float("nan")


def trainer(model, tokenizer, rows, **options) -> SFTTrainer:
    shared = {"total_batch_size": 2, "max_length": 32, "log_steps": 1, "max_training_steps": 2}
    return SFTTrainer(model, SFTConfig(**(shared | options)), processing_class=tokenizer, train_dataset=rows)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"text": NAN}, "text"),
        ({"text": None}, "text"),
        ({"prompt": "w5", "completion": NAN}, "completion"),
        ({"input_ids": [5.0, NAN, 7.0]}, "input_ids"),
        ({"input_ids": [5, 6, 7], "labels": [5.0, NAN, 7.0]}, "labels"),
        ({"input_ids": [5, 6, 7], "labels": [5, 6]}, "labels"),
        ({"input_ids": [5, 6, 7], "segment_ids": [1, 2]}, "segment_ids"),
    ],
)
def test_a_row_with_no_value_is_refused_with_its_column(tiny_model, tokenizer, row, told):
    with pytest.raises(DataError, match=told):
        trainer(tiny_model, tokenizer, [row] * 4)


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("row", [{"text": ""}, {"input_ids": []}])
def test_rows_without_tokens_end_in_an_error_not_in_an_endless_epoch(tiny_model, tokenizer, row, packing):
    with pytest.raises(DataError, match="no row to train on"):
        trainer(tiny_model, tokenizer, [row] * 4, packing=packing).train()


@pytest.mark.parametrize("packing", [False, True])
def test_rows_in_which_nothing_is_trained_are_counted_and_raise(tiny_model, tokenizer, packing):
    rows = [{"input_ids": [5, 6, 7], "labels": [-100] * 3}] * 4
    with pytest.raises(DataError, match=r"fully_masked|no row to train on"):
        trainer(tiny_model, tokenizer, rows, packing=packing).train()
    with pytest.raises(DataQualityError, match="fully_masked"):
        trainer(tiny_model, tokenizer, rows * 60, packing=packing).train()


def test_a_step_in_which_nothing_is_trained_has_a_loss_of_zero(tiny_model, tokenizer):
    """A long prompt that is split fills whole packs with tokens that are only read."""
    rows = [{"prompt": " ".join(f"w{3 + n % 90}" for n in range(60)), "completion": " w5 w6"}]
    options = {"packing": True, "packing_strategy": "bfd_split", "max_length": 8, "total_batch_size": 1}
    output = trainer(tiny_model, tokenizer, rows, **options, max_training_steps=8, shuffle_train_dataset=False).train()
    losses = [record["loss"] for record in output.history]
    assert all(math.isfinite(loss) for loss in losses)
    assert 0.0 in losses
    assert max(losses) > 1
