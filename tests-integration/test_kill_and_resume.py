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
from typing import NamedTuple

import numpy as np
import pytest
from thoroughness import thorough_but

HERE = Path(__file__).parent
MOMENTS = int(os.environ.get("EASYDEL_KILL_MOMENTS", "1"))  # `nox -s faults` asks for more
KINDS = ("sft", "grpo") if MOMENTS > 1 else ("sft",)  # of `killable_run.py`; GRPO compiles for a minute


@pytest.fixture(scope="module", params=KINDS)
def kind(request) -> str:
    return request.param


def start(kind: str, directory: Path, *kill_after: int) -> subprocess.Popen:
    command = [sys.executable, HERE / "killable_run.py", kind, directory, *map(str, kill_after)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> int:
    _, errors = process.communicate(timeout=1200)
    assert process.returncode in (0, -signal.SIGKILL), errors
    return process.returncode


class Uninterrupted(NamedTuple):
    """A run that nobody killed."""

    parameters: dict[str, np.ndarray]
    seconds: float
    """From its first log record to its end."""


@pytest.fixture(scope="module")
def uninterrupted(kind, tmp_path_factory) -> Uninterrupted:
    directory = tmp_path_factory.mktemp("whole")
    process = start(kind, directory)
    while process.poll() is None and not (directory / "log.jsonl").exists():
        time.sleep(0.01)
    began = time.perf_counter()
    assert finish(process) == 0
    return Uninterrupted(dict(np.load(directory / "parameters.npz")), time.perf_counter() - began)


def assert_same_bits(directory: Path, expected: dict[str, np.ndarray]) -> None:
    found = np.load(directory / "parameters.npz")
    assert set(found.files) == set(expected)
    for name, array in expected.items():
        assert np.array_equal(found[name], array), name


# That of the step before the kill may still be on its way to the disk.
NEWEST = {"sft": (6, 9), "grpo": (8, 10)}


def test_killed_between_two_steps_and_started_again(kind, uninterrupted, tmp_path):
    assert finish(start(kind, tmp_path, 11)) == -signal.SIGKILL
    newest = max(int(path.name) for path in (tmp_path / "checkpoints").iterdir() if path.name.isdecimal())
    assert newest in NEWEST[kind]
    meta = json.loads((tmp_path / "checkpoints" / str(newest) / "meta" / "metadata").read_text())
    if kind == "sft":
        assert meta["data"]["rows"]["consumed"] > 0  # in the middle of a window of packs
    else:
        assert meta["extras"]["steps_on_current"] in (1, 2)  # in the middle of a rollout's three steps
        assert meta["extras"]["next"] is not None  # and the next one is there
    assert finish(start(kind, tmp_path)) == 0
    assert_same_bits(tmp_path, uninterrupted.parameters)
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 25))


@pytest.mark.parametrize("moment", range(MOMENTS) if MOMENTS > 1 else thorough_but(range(1), ()))
def test_killed_at_any_moment_and_started_again(kind, uninterrupted, tmp_path, moment):
    """Half-written checkpoints and logs must never be taken for whole ones, wherever the kills fell."""
    chance, log = random.Random(moment), tmp_path / "log.jsonl"
    kills = 0
    for _ in range(2):
        before = log.stat().st_size if log.exists() else 0
        process = start(kind, tmp_path)
        if chance.random() < 0.8:  # else while it starts, restores, compiles
            while process.poll() is None and (not log.exists() or log.stat().st_size <= before):
                time.sleep(0.01)
        time.sleep(chance.uniform(0, uninterrupted.seconds))
        process.kill()
        kills += finish(process) != 0
    assert finish(start(kind, tmp_path)) == 0
    assert_same_bits(tmp_path, uninterrupted.parameters)
    print(f"moment {moment}: killed {kills} time(s)")


def test_told_to_stop_it_saves_ends_with_its_own_code_and_goes_on(kind, uninterrupted, tmp_path):
    """The interpreter ends while threads that read ahead and write checkpoints may still be at work: cleanly."""
    process, log = start(kind, tmp_path), tmp_path / "log.jsonl"
    while process.poll() is None and not log.exists():
        time.sleep(0.01)
    process.terminate()
    _, errors = process.communicate(timeout=1200)
    assert process.returncode == 75, errors
    assert "stopped and saved" in errors
    assert "FATAL" not in errors
    assert "Traceback" not in errors
    assert finish(start(kind, tmp_path)) == 0
    assert_same_bits(tmp_path, uninterrupted.parameters)
