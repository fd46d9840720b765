"""The peak of memory that runs report."""

from __future__ import annotations

import subprocess
import sys

import pytest

REPORTS = "from easydel_trainers.throughput import peak_memory_bytes; print(peak_memory_bytes())"
FILLED = 1_500_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands peaks down")
def test_a_peak_is_not_that_of_whoever_started_the_process():
    starts = f"import subprocess, sys; filled = b'x' * {FILLED}; subprocess.run([sys.executable, '-c', {REPORTS!r}])"
    done = subprocess.run([sys.executable, "-c", starts], check=True, capture_output=True, text=True)
    assert 50_000_000 < int(done.stdout) < FILLED
