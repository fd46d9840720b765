"""kill -9 at some step or at some moment, start again: the same parameters, bit for bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
MOMENTS = int(os.environ.get("EASYDEL_KILL_MOMENTS", "1"))  # `nox -s faults` asks for more


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Path:
    """The golden conversations as one JSON-lines file, three times over: 192 rows."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text((HERE / "golden" / "rows" / "messages.jsonl").read_text() * 3)
    return path


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("compiled")


def start(rows: Path, directory: Path, compiled: Path, *kill_after: int) -> subprocess.Popen:
    command = [sys.executable, HERE / "killable_run.py", rows, directory, *map(str, kill_after)]
    environment = os.environ | {"EASYDEL_TEST_COMPILED": str(compiled)}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> int:
    _, errors = process.communicate(timeout=300)
    assert process.returncode in (0, -signal.SIGKILL), errors
    return process.returncode


@pytest.fixture(scope="module")
def uninterrupted(rows, compiled, tmp_path_factory) -> dict[str, np.ndarray]:
    directory = tmp_path_factory.mktemp("whole")
    assert finish(start(rows, directory, compiled)) == 0
    return dict(np.load(directory / "parameters.npz"))


def assert_same_bits(directory: Path, expected: dict[str, np.ndarray]) -> None:
    found = np.load(directory / "parameters.npz")
    assert set(found.files) == set(expected)
    for name, array in expected.items():
        assert np.array_equal(found[name], array), name


def test_killed_between_two_steps_and_started_again(rows, compiled, uninterrupted, tmp_path):
    assert finish(start(rows, tmp_path, compiled, 11)) == -signal.SIGKILL
    newest = max(int(path.name) for path in (tmp_path / "checkpoints").iterdir() if path.name.isdecimal())
    assert newest in (6, 9)  # that of step 9 may still have been on its way to the disk
    meta = json.loads((tmp_path / "checkpoints" / str(newest) / "meta" / "metadata").read_text())
    assert meta["data"]["epoch"] == 0
    assert finish(start(rows, tmp_path, compiled)) == 0
    assert_same_bits(tmp_path, uninterrupted)
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 25))


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_killed_at_any_moment_and_started_again(rows, compiled, uninterrupted, tmp_path, moment):
    """Kills until a start gets through: half-written checkpoints and logs must never be taken for whole ones."""
    chance = random.Random(moment)
    for _ in range(8):
        process = start(rows, tmp_path, compiled)
        time.sleep(chance.uniform(4, 14))
        process.kill()
        if finish(process) == 0:
            break
    else:
        assert finish(start(rows, tmp_path, compiled)) == 0
    assert_same_bits(tmp_path, uninterrupted)
