"""What befalls runs: signals, damaged checkpoints, full disks, two runs in one folder; each caused for real."""

from __future__ import annotations

import gc
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time

import jax
import numpy as np
import pytest
from easydel_models.parameters import split_params
from easydel_trainers import Callback, CheckpointError, Interrupted, SFTConfig, SFTTrainer
from easydel_trainers.checkpoints.checkpointer import Checkpointer
from easydel_trainers.run.interruption import EXIT_INTERRUPTED


def config(directory, **options) -> SFTConfig:
    shared = {
        "learning_rate": 1e-2,
        "total_batch_size": 4,
        "max_length": 32,
        "max_training_steps": 8,
        "log_steps": 3,
        "length_buckets": [128],
        "save_directory": None if directory is None else str(directory),
        "save_steps": None if directory is None else 4,
    }
    return SFTConfig(**(shared | options))


class At(Callback):
    """Does something behind a step."""

    def __init__(self, step: int, action):
        self.step, self.action = step, action

    def on_step(self, run):
        if run.step == self.step:
            self.action()


@pytest.fixture
def make(tiny_model, tokenizer, text_rows):
    def make(arguments: SFTConfig, **options) -> SFTTrainer:
        structure, params = split_params(tiny_model)
        from easydel_models.parameters import join_params

        model = join_params(structure, jax.tree.map(lambda leaf: leaf.copy(), params))
        return SFTTrainer(model, arguments, processing_class=tokenizer, **({"train_dataset": text_rows} | options))

    return make


@pytest.fixture
def whole(make, tmp_path):
    """An uninterrupted run."""
    trainer = make(config(tmp_path / "whole"))
    return trainer, trainer.train()


def assert_same_bits(left: SFTTrainer, right: SFTTrainer) -> None:
    for ours, theirs in zip(*(jax.tree.leaves(split_params(t.model)[1]) for t in (left, right)), strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_finishes_the_step_saves_and_the_run_goes_on_bit_equal(make, whole, tmp_path, number):
    before = signal.getsignal(number)
    broken = make(config(tmp_path / "run"), callbacks=[At(6, lambda: os.kill(os.getpid(), number))])
    with pytest.raises(Interrupted) as caught:
        broken.train()
    assert caught.value.code == EXIT_INTERRUPTED == 75
    assert (caught.value.reason, caught.value.step) == (number.name, 6)
    assert signal.getsignal(number) is before
    assert (tmp_path / "run" / "checkpoints" / "6").is_dir()
    again = make(config(tmp_path / "run"))
    output = again.train()
    assert_same_bits(again, whole[0])
    assert [r["loss"] for r in output.history] == [r["loss"] for r in whole[1].history]


def test_a_signal_ends_a_run_that_waits_for_data(make, text_rows, tmp_path):
    """Rows that never come must not keep a run from saving before the scheduler kills it."""
    from easydata_sources import as_sharded_source

    waiting, go_on = threading.Event(), threading.Event()

    def stall(row):
        if row["number"] == 256:  # the first of the second batch that the transform is given
            go_on.wait(60)
        return row

    numbered = [row | {"number": number} for number, row in enumerate(text_rows * 8)]
    rows = as_sharded_source(numbered).map(stall)
    options = {"shuffle_train_dataset": False, "total_batch_size": 64, "length_buckets": [2048]}
    trainer = make(config(tmp_path, **options), train_dataset=rows, callbacks=[At(4, waiting.set)])
    release = threading.Timer(20, go_on.set)

    def terminate():
        waiting.wait(60)
        release.start()
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=terminate).start()
    with pytest.raises(Interrupted) as caught:
        trainer.train()
    assert caught.value.step == 4
    assert not go_on.is_set()
    release.cancel()
    go_on.set()  # let the abandoned thread end


def test_a_second_interrupt_stops_at_once(make, tmp_path):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        make(config(tmp_path), callbacks=[At(6, twice)]).train()
    assert not (tmp_path / "checkpoints" / "6").exists()


def damage_file(folder):
    largest = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)


def truncate_file(folder):
    largest = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)


def lose_file(folder):
    max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size).unlink()


@pytest.mark.parametrize("fault", [damage_file, truncate_file, lose_file, lambda f: shutil.rmtree(f / "meta")])
def test_a_damaged_checkpoint_is_told_and_the_last_good_one_used(make, whole, tmp_path, caplog, fault):
    directory = tmp_path / "whole"
    fault(directory / "checkpoints" / "8")
    again = make(config(directory))
    with caplog.at_level(logging.WARNING):
        again.train()
    assert "DAMAGED CHECKPOINT: that of step 8" in caplog.text
    assert (directory / "damaged" / "8").is_dir()
    assert_same_bits(again, whole[0])


def test_a_folder_in_use_by_another_run_is_refused(make, tmp_path):
    seen = []

    def start_another():
        with pytest.raises(CheckpointError, match=rf"in use by another run \(process {os.getpid()} on ") as caught:
            make(config(tmp_path)).train()
        seen.append(caught)

    make(config(tmp_path), callbacks=[At(2, start_another)]).train()
    assert seen
    make(config(tmp_path)).train()  # and free again


@pytest.fixture
def small_files():
    """No file of this process may grow beyond a limit, as on a full disk or past a quota."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    gc.collect()  # what orbax left of the failed write, while its warnings are still expected


#: Orbax leaves its own coroutines behind when a write fails; Python tells of them when it collects them.
orbax_leaks = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def when_there(path, action):
    """Do something once a checkpoint is on the disk, which happens in the background."""

    def wait_and_do():
        while not path.exists():
            time.sleep(0.01)
        action()

    return wait_and_do


@orbax_leaks
def test_a_full_disk_stops_the_run_cleanly(make, tmp_path, small_files):
    full = when_there(tmp_path / "checkpoints" / "4", lambda: small_files(6000))
    trainer = make(config(tmp_path), callbacks=[At(6, full)])
    with pytest.raises(CheckpointError, match=r"could not be written to .* The newest whole one is of step 4"):
        trainer.train()
    assert not list((tmp_path / "checkpoints").glob("8"))


@orbax_leaks
def test_a_full_disk_is_counted_and_training_goes_on_if_asked(make, whole, tmp_path, caplog, small_files):
    full = when_there(tmp_path / "run" / "checkpoints" / "4", lambda: small_files(6000))
    trainer = make(config(tmp_path / "run", on_save_error="continue"), callbacks=[At(6, full)])
    output = trainer.train()
    assert output.metrics["failed_writes"] >= 1
    assert "NOT SAVED" in caplog.text
    assert_same_bits(trainer, whole[0])
    small_files(resource.RLIM_INFINITY)
    again = make(config(tmp_path / "run"))
    again.train()
    assert_same_bits(again, whole[0])


@orbax_leaks
def test_a_disk_that_was_full_for_a_while_costs_only_the_checkpoints_of_that_time(
    make, tmp_path, small_files, monkeypatch
):
    """Also where the next one is due before it is known what became of the one before."""
    options = {"on_save_error": "continue", "save_steps": 2, "save_total_limit": None}
    full = when_there(tmp_path / "checkpoints" / "2", lambda: small_files(3000))

    used, save = [], Checkpointer.save
    monkeypatch.setattr(Checkpointer, "save", lambda own, *given, **how: used.append(own) or save(own, *given, **how))

    class MakeRoom(Callback):
        def on_step(self, run):
            while run.step == 5 and used[-1]._manager.is_saving_in_progress():
                time.sleep(0.01)
            if run.step == 5:
                small_files(resource.RLIM_INFINITY)

    output = make(config(tmp_path, **options), callbacks=[At(3, full), MakeRoom()]).train()
    assert output.metrics["failed_writes"] >= 1
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir() if path.name.isdecimal()) == [
        "2",
        "6",
        "8",
    ]


@orbax_leaks
@pytest.mark.parametrize(("on_save_error", "raised"), [("continue", KeyboardInterrupt), ("stop", CheckpointError)])
def test_a_checkpoint_that_fails_while_a_run_ends_otherwise(make, tmp_path, small_files, caplog, on_save_error, raised):
    """It is waited for on the way out; with `continue` the run ends as it would have."""

    def stop_at_once():
        raise KeyboardInterrupt

    full = when_there(tmp_path / "checkpoints" / "4", lambda: small_files(3000))
    options = {"on_save_error": on_save_error, "save_steps": 4, "log_steps": 100}
    with pytest.raises(raised):
        make(config(tmp_path, max_training_steps=12, **options), callbacks=[At(5, full), At(9, stop_at_once)]).train()
    if on_save_error == "continue":
        assert "NOT SAVED" in caplog.text


def test_a_clock_that_is_set_during_a_save_fails_no_save(make, tmp_path, monkeypatch):
    years, before_rename, real = [0], Checkpointer._before_rename, time.time

    def set_clock(checkpointer):
        years[0] = 0 if years[0] else 30
        before_rename(checkpointer)

    monkeypatch.setattr(time, "time", lambda: real() + years[0] * 365 * 24 * 3600)
    monkeypatch.setattr(Checkpointer, "_before_rename", set_clock)
    make(config(tmp_path, max_training_steps=4, save_steps=1, save_total_limit=None)).train()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["1", "2", "3", "4"]


def test_a_folder_that_cannot_be_made_is_refused_before_training(make, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written to"):
        make(config(tmp_path / "file" / "run")).train()


def test_a_checkpoint_of_other_versions_is_refused_and_can_be_forced(make, tmp_path, monkeypatch, caplog):
    make(config(tmp_path, max_training_steps=4)).train()
    meta = tmp_path / "checkpoints" / "4" / "meta" / "metadata"
    manifest = tmp_path / "checkpoints" / "4" / "manifest.json"
    meta.write_text(meta.read_text().replace(f'"jax": "{jax.__version__}"', '"jax": "0.1.0"'))
    from easydel_trainers.checkpoints.manifest import write_manifest

    manifest.unlink()
    write_manifest(manifest.parent)
    with pytest.raises(CheckpointError, match=f"jax: '0.1.0' then, '{jax.__version__}' now"):
        make(config(tmp_path, max_training_steps=4)).train()
    with caplog.at_level(logging.WARNING):
        assert make(config(tmp_path, max_training_steps=6, resume="force")).train().global_step == 6
    assert "jax: '0.1.0' then" in caplog.text


def test_a_script_that_is_terminated_ends_with_its_own_exit_code():
    script = textwrap.dedent("""
        from easydel_trainers import Interrupted
        raise Interrupted("SIGTERM", 3)
    """)
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 75
