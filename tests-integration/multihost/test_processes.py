"""Two and four processes on this machine: training, shares of the rows, checkpoints, other counts, a process killed."""

from __future__ import annotations

import numpy as np
import pytest
from launched import STEPS, Ended, launched, many_rows

MEASURED = {"read", "report"}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return many_rows(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def alone(rows, tmp_path_factory):
    """One process, uninterrupted."""
    return launched(rows, tmp_path_factory.mktemp("alone") / "run", 1, config=STEPS).arrays()


def assert_same_run(run: Ended, alone) -> None:
    found = run.arrays()
    for name in alone.keys() - MEASURED:
        np.testing.assert_allclose(found[name], alone[name], rtol=2e-4, atol=2e-6, err_msg=name)
    assert str(found["report"]) == str(alone["report"])


@pytest.mark.parametrize(
    ("processes", "devices", "mesh"), [(2, 1, {}), (4, 1, {"fsdp": 2, "tp": 2}), (2, 2, {"tp": 2})]
)
def test_several_processes_train_as_one(processes, devices, mesh, rows, alone, tmp_path):
    run = launched(rows, tmp_path / "run", processes, devices=devices, config=STEPS | mesh)
    assert_same_run(run, alone)


def test_no_row_is_prepared_twice(rows, tmp_path):
    run = launched(rows, tmp_path / "run", 2, config={"num_train_epochs": 1})
    shares = [int(run.arrays(process)["read"]) for process in range(2)]
    # Windows of 256: the first and the third against the second. Beside them each process tries the first row once.
    assert shares == [256 + (704 - 512), 256]


def test_on_the_same_count_a_resumed_run_is_bit_equal(rows, tmp_path):
    whole = launched(rows, tmp_path / "whole", 2, config=STEPS).arrays()
    assert launched(rows, tmp_path / "run", 2, config=STEPS, kill=[0, 6]).code != 0
    resumed = launched(rows, tmp_path / "run", 2, config=STEPS).arrays()
    for name in whole.keys() - {"read"}:
        np.testing.assert_array_equal(resumed[name], whole[name], err_msg=name)


@pytest.mark.parametrize(
    ("processes", "devices", "mesh"), [(1, 1, {}), (1, 4, {"fsdp": 2, "tp": 2}), (4, 1, {"fsdp": 4}), (2, 2, {"sp": 2})]
)
def test_a_run_goes_on_with_other_processes_and_another_mesh(processes, devices, mesh, rows, alone, tmp_path):
    assert launched(rows, tmp_path / "run", 2, config=STEPS, kill=[1, 6]).code != 0
    assert_same_run(launched(rows, tmp_path / "run", processes, devices=devices, config=STEPS | mesh), alone)


@pytest.mark.parametrize(("processes", "victim"), [(2, 0), (2, 1), (4, 2)])
def test_when_one_is_killed_the_others_end_soon_and_say_why(processes, victim, rows, tmp_path):
    run = launched(rows, tmp_path / "run", processes, config=STEPS, kill=[victim, 6])
    assert run.code == 128 + 9
    assert f"process [{victim}] was ended by SIGKILL" in run.errors
    assert "Another process of this run is lost" in run.errors or "is killed" in run.errors


def test_one_is_told_to_stop_and_all_save_at_the_same_step(rows, alone, tmp_path):
    stopped = launched(rows, tmp_path / "run", 2, config=STEPS | {"save_steps": None}, stop=[1, 3])
    assert stopped.code == 75, stopped.errors
    saved = [int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir() if path.name.isdecimal()]
    assert len(saved) == 1
    assert 3 <= saved[0] < 9
    assert_same_run(launched(rows, tmp_path / "run", 2, config=STEPS | {"save_steps": None}), alone)
