"""The best checkpoint outlives restarts, and a run started again never leaves a worse model."""

from __future__ import annotations

import copy
import logging

import jax
import numpy as np
import pytest
from easydel_models.parameters import split_params
from easydel_trainers import CheckpointError, SFTConfig, SFTTrainer

#: what evaluations find, by step: steps 4 and 8 are better than all before
LOSSES = {2: 3.0, 4: 1.0, 6: 2.0, 8: 0.5}


def config(directory, **options) -> SFTConfig:
    shared = {"learning_rate": 1e-2, "total_batch_size": 4, "max_length": 32, "length_buckets": [128], "log_steps": 3}
    run = {"save_directory": str(directory), "save_steps": 1, "save_total_limit": 1, "evaluation_steps": 2}
    best = {"metric_for_best_model": "eval_loss", "load_best_model_at_end": True, "max_training_steps": 7}
    return SFTConfig(**(shared | run | best | options))


@pytest.fixture
def make(tiny_model, tokenizer, text_rows, monkeypatch):
    def make(arguments: SFTConfig, losses=LOSSES, **options) -> SFTTrainer:
        rows = {"processing_class": tokenizer, "train_dataset": text_rows, "eval_dataset": text_rows[:4]}
        trainer = SFTTrainer(copy.deepcopy(tiny_model), arguments, **(rows | options))
        monkeypatch.setattr(trainer.source, "measure", lambda rows, state: {"loss": losses.get(state.step, 9.0)})
        return trainer

    return make


def parameters(trainer) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(split_params(trainer.model)[1])]


def same(left, right) -> bool:
    return all(np.array_equal(ours, theirs) for ours, theirs in zip(left, right, strict=True))


@pytest.fixture
def of_step_four(make, tmp_path):
    trainer = make(config(tmp_path / "four", max_training_steps=4, scheduler="constant"))
    trainer.train()
    return parameters(trainer)


def test_the_best_checkpoint_outlives_restarts_and_is_what_is_left(make, tmp_path, of_step_four, break_off):
    for step in (6, 7):
        with pytest.raises(KeyboardInterrupt):
            make(config(tmp_path / "run", scheduler="constant"), callbacks=[break_off(step)]).train()
        assert (tmp_path / "run" / "checkpoints" / "4").is_dir()
    trainer = make(config(tmp_path / "run", scheduler="constant"))
    output = trainer.train()
    assert output.metrics["best_step"] == 4
    assert same(parameters(trainer), of_step_four)
    assert {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()} == {"4", "7"}


def test_a_finished_run_started_again_leaves_the_same_model(make, tmp_path):
    """Also where the last step was both saved and, behind that, found to be the best."""
    first = make(config(tmp_path, max_training_steps=8))
    first.train()
    again = make(config(tmp_path, max_training_steps=8))
    output = again.train()
    assert output.metrics["best_step"] == 8
    assert same(parameters(again), parameters(first))


def test_a_last_evaluation_that_no_checkpoint_knows_of_is_made_again(make, tmp_path):
    """A run of unknown length is saved at its last step before it knows that it was the last."""
    make(config(tmp_path, max_training_steps=3, evaluation_steps=None, metric_for_best_model=None,
                load_best_model_at_end=False)).train()  # fmt: skip
    again = make(config(tmp_path, max_training_steps=3), losses={3: 1.0})
    output = again.train()
    assert (output.metrics["best_step"], output.history[-1]) == (3, {"step": 3, "eval_loss": 1.0})


@pytest.mark.parametrize("fault", ["damaged", "lost"])
def test_a_best_checkpoint_that_is_not_whole_is_never_loaded(make, tmp_path, fault, caplog, break_off):
    with pytest.raises(KeyboardInterrupt):
        make(config(tmp_path), callbacks=[break_off(6)]).train()
    best = tmp_path / "checkpoints" / "4"
    largest = max((path for path in best.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    if fault == "lost":
        best.rename(tmp_path / "elsewhere")
    trainer = make(config(tmp_path))
    with pytest.raises(CheckpointError, match=r"best step, 4, is not there or damaged: .* of the last step, 7"):
        trainer.train()
    with caplog.at_level(logging.ERROR):
        content_with_less = make(config(tmp_path, on_save_error="continue"))
        content_with_less.train()
    assert "The checkpoint of the best step, 4" in caplog.text
    assert same(parameters(trainer), parameters(content_with_less))


def test_a_best_step_by_another_metric_does_not_count(make, tmp_path, caplog, monkeypatch, break_off):
    with pytest.raises(KeyboardInterrupt):
        make(config(tmp_path), callbacks=[break_off(6)]).train()
    options = {"metric_for_best_model": "eval_mean_token_accuracy", "greater_is_better": True}
    trainer = make(config(tmp_path, **options))
    monkeypatch.setattr("easydel_trainers.run.run.evaluate", lambda *_: {"eval_mean_token_accuracy": 0.1})
    with caplog.at_level(logging.WARNING):
        assert trainer.train().metrics["best_step"] == 6
    assert "The best step so far, 4, was so by eval_loss" in caplog.text
