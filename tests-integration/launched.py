"""Starting `process_run.py` as several processes with `easydel launch`, and reading what they leave."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
STEPS = {"max_training_steps": 9, "save_steps": 4}


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    code: int
    errors: str
    seconds: float
    out: Path

    def arrays(self, process: int = 0) -> dict[str, np.ndarray]:
        """What a process that came to its end left."""
        assert self.code == 0, self.errors
        with np.load(f"{self.out}.{process}.npz") as stored:
            return dict(stored)


def launched(rows: Path, directory: Path, processes: int, *, devices: int = 1, **settings: Any) -> Ended:
    """Run to the end, or until a process dies. `settings` as in `process_run.py`."""
    out = directory.with_name(f"{directory.name}-{processes}x{devices}")
    places = {"rows": str(rows), "directory": str(directory), "out": str(out), "devices": devices}
    program = [sys.executable, str(HERE / "process_run.py"), json.dumps({"config": {}} | settings | places)]
    command = [sys.executable, "-m", "easydel.cli", "launch", "--processes", str(processes), "--", *program]
    began = time.monotonic()
    ended = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    return Ended(ended.returncode, ended.stderr, time.monotonic() - began, out)


def many_rows(folder: Path) -> Path:
    """The golden conversations eleven times over: 704 rows, three windows."""
    path = folder / "rows.jsonl"
    path.write_text((HERE / "golden" / "rows" / "messages.jsonl").read_text() * 11)
    return path
