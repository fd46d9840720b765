"""The trackers' own libraries, offline: a run's records arrive, and a resumed run goes on with its own."""

from __future__ import annotations

import copy
import logging

import pytest
from easydel_trainers import SFTConfig, SFTTrainer


@pytest.fixture
def make(tiny_model, tokenizer, text_rows, tmp_path):
    def make(tracker: str, **options) -> SFTTrainer:
        config = SFTConfig(
            total_batch_size=4,
            max_length=32,
            max_training_steps=4,
            log_steps=1,
            length_buckets=[128],
            shuffle_train_dataset=False,
            save_directory=str(tmp_path / "run"),
            save_steps=2,
            report_to=[tracker],
        )
        model = copy.deepcopy(tiny_model)
        return SFTTrainer(model, config, processing_class=tokenizer, train_dataset=text_rows, **options)

    return make


def leveldb_log(data, header=7, block=32768):
    """The records of a log as LevelDB writes them, behind a file header of 7 bytes."""
    at, held = 7, b""
    while at + header < len(data):
        if block - at % block < header:
            at += block - at % block
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        held += data[at + header : at + header + length]
        at += header + length
        if kind in (1, 4):  # whole, or the last part
            yield held
            held = b""


def wandb_records(path):
    """The steps of the history in a file of an offline run, and the run's id."""
    from wandb.proto.wandb_internal_pb2 import Record

    steps, run_id = [], None
    for data in leveldb_log(path.read_bytes()):
        record = Record.FromString(data)
        if record.HasField("run"):
            run_id = record.run.run_id
        if record.HasField("history"):
            values = {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
            steps.append(int(values["step"]))
    return steps, run_id


@pytest.mark.thorough  # needs an extra that the package's own tests do without
def test_wandb_gets_every_record_and_a_rerun_goes_on_with_its_run(make, tmp_path, monkeypatch, break_off):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with pytest.raises(KeyboardInterrupt):
        make("wandb", callbacks=[break_off(3)]).train()
    assert make("wandb").train().global_step == 4
    files = sorted((tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb"))
    (first, its_id), (second, same_id) = map(wandb_records, files)
    assert its_id == same_id
    assert second == [3, 4]
    assert first == [1, 2]


@pytest.mark.thorough  # needs an extra that the package's own tests do without
def test_a_run_in_an_emptied_folder_is_another_wandb_run(tmp_path):
    from easydel_trainers.trackers.wandb_tracker import _run_id

    first = _run_id(tmp_path, goes_on=False)
    assert _run_id(tmp_path, goes_on=True) == first
    assert _run_id(tmp_path, goes_on=False) != first


@pytest.mark.thorough  # needs an extra that the package's own tests do without
def test_trackio_gets_every_record(make, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    assert make("trackio").train().global_step == 4


@pytest.mark.parametrize("broken", ["open_tracker", "TensorBoardTracker.close"])
def test_a_tracker_that_cannot_be_opened_or_closed_costs_no_run(make, monkeypatch, caplog, tmp_path, broken):
    def fail(*_, **__):
        raise ConnectionError("service away")

    monkeypatch.setattr(f"easydel_trainers.trackers.tensorboard_tracker.{broken}", fail)
    with caplog.at_level(logging.ERROR):
        assert make("tensorboard").train().global_step == 4
    assert caplog.text.count("service away") == 1
    assert (tmp_path / "run" / "checkpoints" / "4").is_dir()


def test_a_resumed_run_replaces_what_tensorboard_shows_of_steps_taken_again(make, tmp_path, monkeypatch, break_off):
    from easydel_trainers.trackers import tensorboard_tracker

    purged = []

    class Writer(tensorboard_tracker.SummaryWriter):
        def __init__(self, *arguments, purge_step=None, **options):
            purged.append(purge_step)
            super().__init__(*arguments, purge_step=purge_step, **options)

    monkeypatch.setattr(tensorboard_tracker, "SummaryWriter", Writer)
    with pytest.raises(KeyboardInterrupt):
        make("tensorboard", callbacks=[break_off(3)]).train()
    make("tensorboard").train()
    assert purged == [None, 3]
