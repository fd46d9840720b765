"""A run's parameters are taken from its folder without rows, rewards or a mark left there."""

from __future__ import annotations

import copy
import logging
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from easydel_models import LoraConfig
from easydel_models.parameters import split_params
from easydel_trainers import (
    Callback,
    CheckpointError,
    GRPOConfig,
    GRPOTrainer,
    SFTConfig,
    SFTTrainer,
)


def config(directory: Path, **options) -> SFTConfig:
    shared = {"learning_rate": 1e-2, "total_batch_size": 4, "max_length": 32, "max_training_steps": 4}
    folder = {"save_directory": str(directory), "save_steps": 2, "length_buckets": [128]}
    return SFTConfig(**(shared | folder | options))


def parameters(trainer) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(split_params(trainer.model)[1])]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_restored(kind, model, arguments, trained, tokenizer) -> None:
    before = contents(Path(arguments.save_directory))
    restored = kind.without_rows(copy.deepcopy(model), arguments, processing_class=tokenizer)
    assert restored.restore() == 4
    for ours, theirs in zip(parameters(restored), trained, strict=True):
        assert np.array_equal(ours, theirs)
    assert contents(Path(arguments.save_directory)) == before


@pytest.mark.parametrize(
    "options",
    [{}, {"ema_decay": 0.5}, {"optimizer": "schedule_free", "scheduler": "constant"}, {"lora": LoraConfig(rank=2)}],
    ids=["plain", "average", "schedule free", "adapters"],
)
def test_a_finished_run_is_restored_without_its_rows(tiny_model, tokenizer, text_rows, tmp_path, options):
    arguments = config(tmp_path, **options)
    trainer = SFTTrainer(copy.deepcopy(tiny_model), arguments, processing_class=tokenizer, train_dataset=text_rows)
    trainer.train()
    assert_restored(SFTTrainer, tiny_model, arguments, parameters(trainer), tokenizer)


def test_a_run_on_rewards_is_restored_without_them(tiny_model, tokenizer, tmp_path):
    arguments = GRPOConfig(
        save_directory=str(tmp_path),
        max_training_steps=4,
        total_batch_size=4,
        num_return_sequences=4,
        max_prompt_length=8,
        max_completion_length=4,
    )
    rewards = [lambda completion_ids, **rest: [float(sum(ids)) for ids in completion_ids]]
    rows = [{"prompt": f"w{number} w{number + 1}"} for number in range(5, 25)]
    options = {"processing_class": tokenizer, "train_dataset": rows, "reward_funcs": rewards}
    trainer = GRPOTrainer(copy.deepcopy(tiny_model), arguments, **options)
    trainer.train()
    assert_restored(GRPOTrainer, tiny_model, arguments, parameters(trainer), tokenizer)


def test_a_run_that_is_going_on_is_restored_and_left_alone(tiny_model, tokenizer, text_rows, tmp_path):
    found = []

    class Look(Callback):
        def on_step(self, run):
            if run.step == 3:
                while not (tmp_path / "checkpoints" / "2").is_dir():
                    time.sleep(0.01)  # it is written in the background
                before = contents(tmp_path)
                other = SFTTrainer.without_rows(copy.deepcopy(tiny_model), config(tmp_path), processing_class=tokenizer)
                found.append(other.restore())
                assert contents(tmp_path) == before

    SFTTrainer(
        copy.deepcopy(tiny_model),
        config(tmp_path),
        processing_class=tokenizer,
        train_dataset=text_rows,
        callbacks=[Look()],
    ).train()
    assert found == [2]


def test_a_damaged_checkpoint_is_told_and_an_older_one_restored(tiny_model, tokenizer, text_rows, tmp_path, caplog):
    SFTTrainer(copy.deepcopy(tiny_model), config(tmp_path), processing_class=tokenizer, train_dataset=text_rows).train()
    (tmp_path / "checkpoints" / "4" / "meta" / "metadata").write_text("{}")
    other = SFTTrainer.without_rows(copy.deepcopy(tiny_model), config(tmp_path), processing_class=tokenizer)
    with caplog.at_level(logging.WARNING):
        assert other.restore() == 2
    assert "DAMAGED CHECKPOINT: that of step 4" in caplog.text


def test_nothing_to_restore_and_another_base_are_refused(tiny_model, tokenizer, text_rows, tmp_path):
    arguments = config(tmp_path, lora=LoraConfig(rank=2))
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        SFTTrainer.without_rows(copy.deepcopy(tiny_model), arguments, processing_class=tokenizer).restore()
    SFTTrainer(copy.deepcopy(tiny_model), arguments, processing_class=tokenizer, train_dataset=text_rows).train()
    other = copy.deepcopy(tiny_model)
    other.embedding[...] = other.embedding[...].at[3, 3].add(1.0)
    with pytest.raises(CheckpointError, match="adapters of another base model"):
        SFTTrainer.without_rows(other, arguments, processing_class=tokenizer).restore()
    with pytest.raises(CheckpointError, match="holds adapters"):
        SFTTrainer.without_rows(copy.deepcopy(tiny_model), config(tmp_path), processing_class=tokenizer).restore()
