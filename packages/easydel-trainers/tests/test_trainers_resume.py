"""Interrupted and continued: the same bits as never interrupted."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from easydel_models.parameters import split_params
from easydel_trainers import Callback, CheckpointError, SFTConfig, SFTTrainer


def config(directory: Path | None, **options) -> SFTConfig:
    shared = {
        "learning_rate": 1e-2,
        "total_batch_size": 4,
        "max_length": 32,
        "num_train_epochs": 2,
        "log_steps": 3,
        "length_buckets": [128],
        "warmup_steps": 2,
    }
    directory_options = {} if directory is None else {"save_directory": str(directory), "save_steps": 4}
    return SFTConfig(**(shared | directory_options | options))


def parameters(trainer: SFTTrainer) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(split_params(trainer.model)[1])]


class StopAfter(Callback):
    """A callback that breaks the run off, as a kill would, after some step's log."""

    def __init__(self, step: int):
        self.step = step

    def on_log(self, record, run):
        if record["step"] >= self.step:
            raise KeyboardInterrupt


@pytest.fixture
def make(tiny_model, tokenizer, text_rows):
    def make(arguments: SFTConfig, **options) -> SFTTrainer:
        return SFTTrainer(
            copy.deepcopy(tiny_model),
            arguments,
            processing_class=tokenizer,
            **({"train_dataset": text_rows} | options),
        )

    return make


def test_a_resumed_run_ends_with_equal_bits(make, tmp_path):
    whole = make(config(tmp_path / "whole"))
    expected = whole.train()
    with pytest.raises(KeyboardInterrupt):
        make(config(tmp_path / "broken"), callbacks=[StopAfter(9)]).train()
    resumed = make(config(tmp_path / "broken"))
    output = resumed.train()
    assert output.global_step == expected.global_step == 20
    for ours, theirs in zip(parameters(resumed), parameters(whole), strict=True):
        assert np.array_equal(ours, theirs)
    numbers = ("step", "loss", "grad_norm", "learning_rate", "num_tokens", "entropy", "mean_token_accuracy")
    for ours, theirs in zip(output.history, expected.history, strict=True):
        assert {name: ours[name] for name in numbers} == {name: theirs[name] for name in numbers}
    assert output.data_report == expected.data_report


def test_resuming_reads_no_row_again_from_the_start(make, tmp_path, text_rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in text_rows))
    with pytest.raises(KeyboardInterrupt):
        make(config(tmp_path / "run"), train_dataset=path, callbacks=[StopAfter(9)]).train()
    meta = json.loads((tmp_path / "run/checkpoints/8/meta/metadata").read_text())
    position = meta["data"]
    assert position["epoch"] == 0
    assert len(json.dumps(position)) < 2000


def test_a_finished_run_repeated_does_nothing(make, tmp_path):
    first = make(config(tmp_path))
    first.train()
    again = make(config(tmp_path))
    assert again.train().global_step == 20
    for ours, theirs in zip(parameters(again), parameters(first), strict=True):
        assert np.array_equal(ours, theirs)


def test_a_checkpoint_of_another_config_is_refused_naming_what_differs(make, tmp_path):
    make(config(tmp_path, max_training_steps=4)).train()
    with pytest.raises(CheckpointError, match=r"learning_rate: 0.01 then, 0.5 now"):
        make(config(tmp_path, max_training_steps=4, learning_rate=0.5)).train()


def test_a_checkpoint_of_another_number_of_rows_is_refused(make, tmp_path, text_rows):
    make(config(tmp_path, max_training_steps=4)).train()
    with pytest.raises(CheckpointError, match="training rows: 40 then, 39 now"):
        make(config(tmp_path, max_training_steps=4), train_dataset=text_rows[1:]).train()


def test_never_refuses_to_touch_an_old_run(make, tmp_path):
    make(config(tmp_path, max_training_steps=4)).train()
    with pytest.raises(CheckpointError, match="resume='never'"):
        make(config(tmp_path, max_training_steps=4, resume="never")).train()


def test_a_half_written_checkpoint_is_passed_over(make, tmp_path):
    """Orbax renames a finished checkpoint into place; what a kill leaves has another name or no commit mark."""
    make(config(tmp_path, max_training_steps=8)).train()
    whole = tmp_path / "checkpoints" / "8"
    torn = tmp_path / "checkpoints" / "9.orbax-checkpoint-tmp-1"
    shutil.copytree(whole, torn)
    (torn / "commit_success.txt").unlink()
    assert make(config(tmp_path, max_training_steps=8)).train().global_step == 8


def test_what_a_kill_kept_from_being_removed_goes_with_the_next_start(make, tmp_path):
    make(config(tmp_path, save_steps=1, save_total_limit=None)).train()
    steps = sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    assert len(steps) > 2
    make(config(tmp_path, save_steps=1, save_total_limit=1)).train()
    assert [int(path.name) for path in (tmp_path / "checkpoints").iterdir()] == steps[-1:]


def test_only_the_newest_checkpoints_are_kept(make, tmp_path):
    make(config(tmp_path, save_total_limit=2)).train()
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["16", "20"]


def test_a_run_cut_short_reports_only_the_rows_it_trained_on(make, text_rows):
    rows = [row | {"number": number} for number, row in enumerate(text_rows * 10)]
    odd = [{"text": ""} if number % 10 == 9 else row for number, row in enumerate(rows)]
    trainer = make(config(None, max_training_steps=3, shuffle_train_dataset=False), train_dataset=odd)
    output = trainer.train()
    assert output.data_report["rows"] == 13  # twelve to train on, and the empty one among them
    assert output.data_report["dropped_empty"] == 1
    assert trainer.data_report.rows == 13


def test_an_unshuffled_mixture_is_read_on_in_the_next_epoch(make, text_rows):
    """Opened anew, an epoch of fifteen rows would never come to the later rows of a source with a small share."""
    from easydata_mix import MixedShardedSource

    sources = {"few": text_rows[:5], "many": text_rows[5:15]}
    once = MixedShardedSource(sources, {"few": 0.8, "many": 0.2}, block_size=5)
    expected = [row["text"] for row in once.limit(45).rows()]
    trainer = make(config(None, num_train_epochs=3, shuffle_train_dataset=False), train_dataset=once)
    rows = trainer.data.in_order(trainer.data.training_transform())
    seen, states = [], []
    for row in rows:
        seen.append(trainer.processing_class.decode(row["input_ids"][:-1]))
        states.append(rows.state())
    assert seen == expected
    assert [state["epoch"] for state in states] == [0] * 15 + [1] * 15 + [2] * 15
    for cut in (14, 15, 31):
        rest = list(trainer.data.in_order(trainer.data.training_transform(), state=states[cut]))
        assert [trainer.processing_class.decode(row["input_ids"][:-1]) for row in rest] == expected[cut + 1 :]
