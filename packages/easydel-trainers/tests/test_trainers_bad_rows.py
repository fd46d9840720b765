"""Rows that cannot be read or transformed: the run ends, or goes on without them and says so."""

from __future__ import annotations

import copy
import json

import jax
import numpy as np
import pytest
from easydata_sources import DataError, DataQualityError
from easydel_models.parameters import split_params
from easydel_trainers import Callback, ConfigError, SFTConfig, SFTTrainer


def config(**options) -> SFTConfig:
    shared = {"total_batch_size": 4, "max_length": 32, "num_train_epochs": 2, "log_steps": 1, "length_buckets": [128]}
    return SFTConfig(**(shared | options))


@pytest.fixture
def files(text_rows, tmp_path):
    """22 good rows; a line that is cut off, one without text, one without tokens; and a file that is gone."""
    lines = [json.dumps(row) for row in text_rows[:22]]
    lines[6:6] = ['{"text": "w1 w']
    lines[15:15] = ['{"number": 1}', '{"input_ids": null}']
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    return tmp_path / "rows.jsonl"


@pytest.fixture
def make(tiny_model, tokenizer, files):
    def make(arguments, **options):
        options = {"train_dataset": str(files)} | options
        return SFTTrainer(copy.deepcopy(tiny_model), arguments, processing_class=tokenizer, **options)

    return make


def parameters(trainer):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(split_params(trainer.model)[1])]


class StopAfter(Callback):
    def on_log(self, record, run):
        if record["step"] >= 7:
            raise KeyboardInterrupt


def test_they_end_the_run_unless_the_config_says_otherwise(make):
    with pytest.raises(DataError, match=r"rows\.jsonl\n  row: 6"):
        make(config(shuffle_train_dataset=False)).train()


def test_a_run_without_them_trains_on_the_rows_that_are_left(make, text_rows):
    skipped, clean = make(config(bad_rows="skip")), make(config(), train_dataset=text_rows[:22])
    output = skipped.train()
    assert output.data_report["broken_json"] == 2  # once in each of two epochs
    assert sum(output.data_report.get(reason, 0) for reason in ("missing_column", "wrong_type", "unfit_row")) == 4
    assert output.history[-1]["num_tokens"] == clean.train().history[-1]["num_tokens"]


def test_quarantine_holds_each_of_them_once_and_resuming_gives_equal_bits(make, tmp_path):
    options = {"bad_rows": "quarantine", "save_steps": 3}
    whole = make(config(save_directory=str(tmp_path / "whole"), **options))
    report = whole.train().data_report
    entries = [json.loads(line) for line in (tmp_path / "whole" / "bad_rows.jsonl").read_text().splitlines()]
    assert sorted(entry["row"] for entry in entries) == [6, 15, 16]
    assert all(entry["file"].endswith("rows.jsonl") and entry["error"] for entry in entries)

    broken_off = config(save_directory=str(tmp_path / "cut"), **options)
    with pytest.raises(KeyboardInterrupt):
        make(broken_off, callbacks=[StopAfter()]).train()
    resumed = make(broken_off)
    assert resumed.train().data_report == report
    assert (tmp_path / "cut" / "bad_rows.jsonl").read_text() == (tmp_path / "whole" / "bad_rows.jsonl").read_text()
    for left, right in zip(parameters(whole), parameters(resumed), strict=True):
        np.testing.assert_array_equal(left, right)


def test_the_budget_ends_the_run(make):
    with pytest.raises(DataQualityError, match="the budget allows 2 rows"):
        make(config(bad_rows="skip", bad_rows_budget=2)).train()


def test_settings_that_make_no_sense_are_refused():
    for options in ({"bad_rows": "ignore"}, {"bad_rows": "quarantine"}, {"bad_rows_budget": 2.5}):
        with pytest.raises(ConfigError):
            config(**options)
