"""What a command leaves in a run's folder beside what the trainer writes: what the run was, and what was held out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from easydel_trainers.processes import is_main_process
from easydel_trainers.records.files import write_whole
from easydel_trainers.run.callbacks import Callback

from easydel.cli.printed import RUN_FILE, config_as_yaml

HELD_OUT_FILE = "held_out.json"


@final
class LeavesConfig(Callback):
    """Writes the config as `run.yaml` once the run has begun: one that is refused changes nothing in the folder.

    Args:
        config: of the command.
    """

    def __init__(self, config: Any):
        self._config = config

    def on_begin(self, run: Any) -> None:
        run.write_file(RUN_FILE, config_as_yaml(self._config))


def leave_held_out(
    folder: Path,
    before: Mapping[str, float],
    after: Mapping[str, float],
    answers: Sequence[Mapping[str, str]] = (),
) -> None:
    """Write what was measured on held-out rows before and after, and the answers then and now, if there is any."""
    if (before or after or answers) and is_main_process():
        found = {"before": before, "after": after, "answers": list(answers)}
        text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
        write_whole(folder / HELD_OUT_FILE, text)
