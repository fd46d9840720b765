"""Rows and configs of preferences that are odd: counted or refused, and nothing but numbers in the parameters."""

from __future__ import annotations

import copy
import logging

import easydel_trainers
import jax
import numpy as np
import pytest
from easydata_sources import DataError
from easydel_models.parameters import split_params
from easydel_trainers import ConfigError, KTOConfig, KTOTrainer

OPTIONS = {
    "learning_rate": 1e-2,
    "total_batch_size": 4,
    "max_training_steps": 3,
    "max_length": 24,
    "log_steps": 1,
    "length_buckets": [256],
    "gradient_checkpointing": "none",
}
ODD = [
    {"prompt": "w3 w4", "chosen": " w5 w6", "rejected": " w5 w6"},  # identical
    {"prompt": "w3 w5", "chosen": "", "rejected": " w7"},  # an empty answer
    {"prompt": "w3 w6", "chosen": " w8", "rejected": ""},
    {"prompt": " ".join(f"w{number}" for number in range(3, 60)), "chosen": " w9", "rejected": " w8"},  # too long
    {"chosen": " w9 w5", "rejected": "w8 w5"},  # different from the first character on
    {"prompt": "w3 w7", "chosen": " w10 w11", "rejected": " w12"},
]


def make(trainer: str, model, tokenizer, rows, **options):
    return getattr(easydel_trainers, f"{trainer}Trainer")(
        copy.deepcopy(model),
        getattr(easydel_trainers, f"{trainer}Config")(**OPTIONS | options),
        processing_class=tokenizer,
        train_dataset=rows,
    )


@pytest.mark.parametrize("name", ["DPO", "ORPO", "CPO", "KTO", "BCO"])
def test_odd_rows_are_counted_and_leave_only_numbers_behind(name, tiny_model, tokenizer):
    trainer = make(name, tiny_model, tokenizer, [row for row in ODD if "prompt" in row])
    history = trainer.train().history
    assert all(np.isfinite([record["loss"], record["grad_norm"]]).all() for record in history)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(split_params(trainer.model)[1]))
    counts = trainer.data_report.counts
    assert counts["dropped_prompt_too_long"] >= 1
    if name in ("DPO", "ORPO", "CPO"):
        assert counts["identical_pair"] >= 1


def test_answers_that_share_nothing_are_whole_and_without_a_prompt(tiny_model, tokenizer):
    trainer = make("DPO", tiny_model, tokenizer, [{"chosen": " w9 w5", "rejected": "w8 w5 w6"}], total_batch_size=1)
    batch = next(trainer._training_batch_iterator())
    assert batch["input_ids"].tolist()[0][:3] == [9, 5, 2]
    assert batch["completion_mask"].tolist()[0][:3] == [0, 1, 1]  # nothing stands before the first token


@pytest.mark.parametrize("label", [True, False])
def test_labels_of_one_class_are_told(label, tiny_model, tokenizer, caplog):
    rows = [{"prompt": f"w{n} w4", "completion": f" w{n + 1}", "label": label} for n in range(3, 20)]
    caplog.set_level(logging.WARNING)
    history = make("KTO", tiny_model, tokenizer, rows).train().history
    assert np.isfinite(history[-1]["loss"])
    kind = "desirable" if label else "undesirable"
    assert any(f"rows so far are {kind}: nothing is compared" in message for message in caplog.messages)


def test_kto_of_single_rows_is_refused():
    with pytest.raises(ConfigError, match=r"total_batch_size.*at least 2.*apo_zero_unpaired"):
        KTOConfig(total_batch_size=1)
    assert KTOConfig(total_batch_size=1, loss_type="apo_zero_unpaired").total_batch_size == 1


def test_missing_columns_are_named_before_anything_is_compiled(tiny_model, tokenizer):
    rows = [{"question": "w3", "good": "w4", "bad": "w5"}]
    with pytest.raises(DataError) as raised:
        KTOTrainer(tiny_model, KTOConfig(), processing_class=tokenizer, train_dataset=rows)
    text = str(raised.value)
    assert "Dataset must have column" in text
    assert all(column in text for column in ("question", "good", "bad"))
    assert ".map(" in text


@pytest.mark.parametrize("name", ["DPO", "ORPO", "CPO", "KTO", "BCO"])
def test_budgets_beyond_the_whole_are_refused(name):
    config = getattr(easydel_trainers, f"{name}Config")
    with pytest.raises(ConfigError, match=r"max_length.*is 512; expected at least 768.*\(256\) .* \(512\)"):
        config(max_length=512, max_prompt_length=256, max_completion_length=512)
    assert config(max_prompt_length=256, max_completion_length=512).max_length == 768
