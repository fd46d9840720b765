"""Two processes as one run, one of them killed: a short sample of `nox -s multihost`."""

from __future__ import annotations

import json

import numpy as np
from launched import STEPS, launched, many_rows


def test_killed_and_started_again_two_processes_train_as_one(tmp_path):
    rows = many_rows(tmp_path)
    killed = launched(rows, tmp_path / "two", 2, config=STEPS, kill=[1, 6])
    assert killed.code == 128 + 9
    assert "process [1] was ended by SIGKILL" in killed.errors

    resumed = launched(rows, tmp_path / "two", 2, config=STEPS)
    alone = launched(rows, tmp_path / "one", 1, config=STEPS).arrays()
    of_two = resumed.arrays(0), resumed.arrays(1)
    for name in alone.keys() - {"read", "report"}:
        np.testing.assert_allclose(of_two[0][name], alone[name], rtol=2e-4, atol=2e-6, err_msg=name)
        np.testing.assert_array_equal(of_two[0][name], of_two[1][name])
    assert str(of_two[0]["report"]) == str(alone["report"])
    log = [json.loads(line)["step"] for line in (tmp_path / "two" / "log.jsonl").read_text().splitlines()]
    assert log == list(range(1, 10))
