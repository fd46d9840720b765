"""A step's rows split by a budget of tokens: the same loss, few shapes, nothing lost."""

from __future__ import annotations

import copy
from itertools import islice

import numpy as np
import pytest
from easydel_trainers import ConfigError, SFTConfig, SFTTrainer
from easydel_trainers.data.layout import StepLayout, arrange_by_budget
from easydel_trainers.step_source import StepStart


def row(length: int) -> dict[str, np.ndarray]:
    ids = np.arange(1, length + 1, dtype=np.int32)
    return {"input_ids": ids, "labels": ids.copy()}


def arrange(lengths, budget, *, padding_free, rows_per_step=8):
    def layout(most, micro_batches):
        return StepLayout(micro_batches=micro_batches, rows=most, padding_free=padding_free, buckets=(16, 32, 64))

    rows = [row(length) for length in lengths]
    return arrange_by_budget(rows, layout, rows_per_step=rows_per_step, budget=budget)


@pytest.mark.parametrize(
    ("budget", "padding_free", "shape"),
    [
        (1000, True, (1, 1, 64)),
        (40, True, (2, 1, 32)),
        (128, False, (1, 8, 16)),
        (64, False, (2, 4, 16)),
        (1, True, (8, 1, 16)),
    ],
)
def test_as_few_micro_batches_as_fit(budget, padding_free, shape):
    arrays = arrange([8] * 8, budget, padding_free=padding_free)
    assert arrays["input_ids"].shape == shape
    assert (arrays["segment_ids"] > 0).sum() == 64


def test_a_row_longer_than_the_budget_stands_alone():
    arrays = arrange([30, 2, 2, 2], 20, padding_free=True, rows_per_step=4)
    assert arrays["input_ids"].shape[0] == 4
    assert (arrays["segment_ids"] > 0).sum() == 36


def test_the_budget_changes_neither_loss_nor_gradient(tiny_model, tokenizer, text_rows):
    def records(**options):
        arguments = SFTConfig(
            learning_rate=1e-2, total_batch_size=8, max_length=32, max_training_steps=4, log_steps=1, **options
        )
        trainer = SFTTrainer(copy.deepcopy(tiny_model), arguments, processing_class=tokenizer, train_dataset=text_rows)
        shapes = set()
        for step in islice(trainer.source.steps(None, StepStart()), 4):
            shapes.add(step.arrays["input_ids"].shape)
        return shapes, trainer.train().history

    whole_shapes, whole = records()
    split_shapes, split = records(max_tokens_per_micro_batch=80)
    assert {shape[0] for shape in whole_shapes} == {1}
    assert max(shape[0] for shape in split_shapes) >= 2
    assert all(shape[1] * shape[2] <= 80 for shape in split_shapes)
    for ours, theirs in zip(split, whole, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-4)


def test_a_budget_beside_a_number_of_micro_batches_is_refused():
    with pytest.raises(ConfigError, match="max_tokens_per_micro_batch"):
        SFTConfig(max_tokens_per_micro_batch=100, gradient_accumulation_steps=2)
