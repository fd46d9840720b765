"""`fsdp` divides parameters, optimizer state and gradients among the devices, before and behind a step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def measured(axes: dict[str, int]) -> dict:
    environment = os.environ | {"PYTHONPATH": str(HERE.parent)}
    command = [sys.executable, str(HERE / "divided_memory.py"), json.dumps(axes)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, env=environment)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def copies():
    """Eight devices that each hold everything."""
    return measured({"dp": 8, "fsdp": 1})


@pytest.mark.parametrize("axes", [{"fsdp": 8}, {"fsdp": 4, "tp": 2}])
def test_a_device_holds_its_part(axes, copies):
    found = measured(axes)
    for moment in ("before", "after"):
        for what in ("params", "optimizer"):
            held = found[moment][what]
            # Norms are whole everywhere; they are less than a hundredth.
            assert held["own"] / held["whole"] == pytest.approx(1 / 8, rel=0.03), (moment, what)
            assert copies[moment][what]["own"] == held["whole"]
    arguments, temporary = found["program"]["arguments"], found["program"]["temporary"]
    assert arguments / copies["program"]["arguments"] == pytest.approx(1 / 8, rel=0.05)
    # One gathered layer of four, and no parameters or gradients of the whole model at any time.
    assert temporary < found["before"]["params"]["whole"] / 2
