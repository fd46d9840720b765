"""Comparing two computations of the same step, and computing steps on several devices."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from first_step import Found

_PROGRAM = Path(__file__).with_name("first_step.py")


def assert_equal_steps(found: Found, expected: Found, *, what: str, tolerance: float = 1e-5) -> None:
    """Loss relative; gradients relative in norm for each tensor, down to a hundredth of that of all together."""
    assert found.keys() == expected.keys()
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=tolerance, err_msg=what)
    norms = {name: float(np.linalg.norm(array)) for name, array in expected.items() if name != "loss"}
    floor = 1e-2 * tolerance * sum(norm**2 for norm in norms.values()) ** 0.5
    assert floor > 0, f"{what}: no gradient at all"
    for name, norm in norms.items():
        error = float(np.linalg.norm(found[name] - expected[name]))
        assert error <= tolerance * norm + floor, f"{what}: {name} differs by {error:.2e} of {norm:.2e}"


def on_devices(devices: int, jobs: Sequence[tuple[str, dict]], folder: Path) -> list[Found]:
    """`first_step` of every job in a program with so many simulated devices."""
    out = folder / "steps.npz"
    command = [sys.executable, str(_PROGRAM), str(devices), str(out), json.dumps(jobs)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert ended.returncode == 0, ended.stderr
    with np.load(out) as arrays:
        return [
            {name.split("/", 1)[1]: arrays[name] for name in arrays.files if name.startswith(f"{number}/")}
            for number in range(len(jobs))
        ]
