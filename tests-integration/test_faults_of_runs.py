"""Best model, adapters and export: killed at evaluations, saves, commits and exports, two runs at once, full disks.

Each round causes up to three faults in one folder and then lets the run end: the same parameters, bit for bit, the same
best step, the same exported files, and nothing left behind. `nox -s faults` makes a hundred rounds.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import pytest
from faulty_run import FAULTS, REFUSED, STEPS

HERE = Path(__file__).parent
ROUNDS = int(os.environ.get("EASYDEL_FAULT_ROUNDS", "1"))
KILLED = -signal.SIGKILL
_TOLD = ("step", "loss", "eval_loss", "grad_norm")


class Runner(NamedTuple):
    process: subprocess.Popen[str]
    errors: Path

    def run(self, folder: Path, fault: str | None = None, number: int = 0, at_once: int = 1) -> list[int]:
        """Exit codes of attempts in a folder."""
        told: IO[str] | None = self.process.stdin
        heard: IO[str] | None = self.process.stdout
        assert told is not None
        assert heard is not None
        told.write(json.dumps({"folder": str(folder), "fault": fault, "number": number, "at once": at_once}) + "\n")
        told.flush()
        codes = json.loads(heard.readline())
        assert set(codes) <= {0, KILLED, REFUSED}, self.errors.read_text()[-5000:]
        return codes


@pytest.fixture(scope="module")
def runner(tmp_path_factory) -> Iterator[Runner]:
    folder = tmp_path_factory.mktemp("runner")
    errors = folder / "errors.txt"
    with errors.open("w") as file:
        command = [sys.executable, "-W", "ignore", str(HERE / "faulty_run.py"), str(folder / "compiled")]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=file, text=True) as process:
            yield Runner(process, errors)
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(60) == 0


@pytest.fixture(scope="module")
def whole(runner, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    assert runner.run(folder) == [0]
    return folder


def assert_same(folder: Path, whole: Path) -> None:
    found, expected = np.load(folder / "parameters.npz"), np.load(whole / "parameters.npz")
    assert found.files == expected.files
    for name in expected.files:
        assert np.array_equal(found[name], expected[name]), name
    summaries = [json.loads((place / "summary.json").read_text()) for place in (folder, whole)]
    assert summaries[0]["best_step"] == summaries[1]["best_step"]
    for name in ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (folder / "model" / name).read_bytes() == (whole / "model" / name).read_bytes(), name
    logs = [[json.loads(line) for line in (place / "log.jsonl").read_text().splitlines()] for place in (folder, whole)]
    for mine, theirs in zip(*logs, strict=True):
        assert [mine.get(name) for name in _TOLD] == [theirs.get(name) for name in _TOLD]
    left = {path.name for path in folder.iterdir()} - {path.name for path in whole.iterdir()}
    assert left <= {"damaged"}
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {
        path.name for path in (whole / "checkpoints").iterdir()
    }


@pytest.mark.parametrize("number", range(ROUNDS))
def test_whatever_befalls_a_run_it_ends_as_if_nothing_had(runner, whole, tmp_path, number):
    chance = random.Random(number)
    befell = []
    for _ in range(chance.randint(1, 3)):
        fault = FAULTS[number % len(FAULTS)] if not befell else chance.choice(FAULTS)
        place = chance.randint(1, 30 if fault in {"commit", "moment", "full disk"} else 6)
        befell.append((fault, place, runner.run(tmp_path, fault, place)))
    ends = runner.run(tmp_path)
    print(f"round {number}: {befell}")
    assert ends == [0], runner.errors.read_text()[-5000:]
    assert_same(tmp_path, whole)


def test_of_two_runs_at_once_in_a_folder_one_is_refused(runner, whole, tmp_path):
    assert sorted(runner.run(tmp_path, at_once=2)) == [0, REFUSED]
    assert "in use by another run" in runner.errors.read_text()
    assert_same(tmp_path, whole)
    assert json.loads((tmp_path / "summary.json").read_text())["global_step"] == STEPS
