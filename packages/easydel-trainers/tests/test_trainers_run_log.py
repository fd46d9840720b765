"""The log survives kills: whole lines only, nothing twice."""

from __future__ import annotations

import json

from easydel_trainers.records.log import LOG_NAME, RunLog


def test_records_are_on_disk_at_once(tmp_path):
    log = RunLog(tmp_path)
    log.add({"step": 1, "loss": 2.5})
    assert json.loads((tmp_path / LOG_NAME).read_text()) == {"step": 1, "loss": 2.5}


def test_a_resumed_log_loses_what_lies_behind_the_checkpoint_and_half_lines(tmp_path):
    log = RunLog(tmp_path)
    for step in (1, 2, 3):
        log.add({"step": step})
    with (tmp_path / LOG_NAME).open("a") as file:
        file.write('{"step": 4, "lo')
    resumed = RunLog(tmp_path, resumed_step=2)
    resumed.cut()
    resumed.add({"step": 3, "loss": 1.0})
    assert resumed.records == [{"step": 1}, {"step": 2}, {"step": 3, "loss": 1.0}]
    lines = (tmp_path / LOG_NAME).read_text().splitlines()
    assert [json.loads(line) for line in lines] == resumed.records


def test_without_a_folder_records_stay_in_memory():
    log = RunLog(None)
    log.add({"step": 1})
    assert log.records == [{"step": 1}]
