"""When a run is saved without being told: by time, at the end of epochs; and what a run without a folder says."""

from __future__ import annotations

import copy
import logging
from pathlib import Path

import pytest
from easydel_trainers import SFTConfig, SFTTrainer


def config(directory: Path | None, **options) -> SFTConfig:
    shared = {"learning_rate": 1e-2, "total_batch_size": 4, "max_length": 32, "length_buckets": [128], "log_steps": 3}
    return SFTConfig(**(shared | {"save_directory": None if directory is None else str(directory)} | options))


@pytest.fixture
def make(tiny_model, tokenizer, text_rows):
    def make(arguments: SFTConfig, **options) -> SFTTrainer:
        rows = {"processing_class": tokenizer, "train_dataset": text_rows}
        return SFTTrainer(copy.deepcopy(tiny_model), arguments, **(rows | options))

    return make


def saved(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir())


def test_a_run_is_saved_at_the_end_of_an_epoch_unless_it_is_asked_not_to(make, tmp_path, break_off):
    for name, options in {"default": {}, "asked not to": {"save_epochs": False}}.items():
        with pytest.raises(KeyboardInterrupt):
            make(config(tmp_path / name, num_train_epochs=2, **options), callbacks=[break_off(12)]).train()
    assert saved(tmp_path / "default") == [10]
    assert saved(tmp_path / "asked not to") == []


def test_an_epoch_whose_rows_are_dropped_ends_all_the_same(make, tmp_path, text_rows, break_off):
    """Then the first step of the next one tells."""
    odd = [row if number % 4 else {"text": ""} for number, row in enumerate(text_rows)]  # 30 of 40 are left
    with pytest.raises(KeyboardInterrupt):
        make(config(tmp_path, num_train_epochs=2), train_dataset=odd, callbacks=[break_off(12)]).train()
    assert saved(tmp_path) == [8]


def test_a_run_is_saved_by_time(make, tmp_path, break_off):
    with pytest.raises(KeyboardInterrupt):
        make(config(tmp_path, save_minutes=1e-6, save_total_limit=None), callbacks=[break_off(4)]).train()
    assert saved(tmp_path) == [1, 2, 3]


def test_a_run_without_a_folder_says_so_and_says_it_again(make, caplog):
    trainer = make(config(None, max_training_steps=1))
    with caplog.at_level(logging.WARNING):
        trainer.train()
        assert "Nothing of this run is saved: there is no save_directory" in caplog.text
        assert "as it does now" not in caplog.text
        trainer.train()
    assert "as it does now, from the parameters that the run before left" in caplog.text


def test_a_run_that_was_killed_before_its_first_checkpoint_says_that_it_begins_anew(make, tmp_path, caplog, break_off):
    with pytest.raises(KeyboardInterrupt):
        make(config(tmp_path, max_training_steps=4, log_steps=1), callbacks=[break_off(4)]).train()
    with caplog.at_level(logging.WARNING):
        make(config(tmp_path, max_training_steps=1)).train()
    assert "log.jsonl tells of an earlier run" in caplog.text
