"""trackio: a local database that its dashboard shows (`trackio show`). Needs no network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import trackio  # pyright: ignore[reportMissingImports] - an extra

_PROJECT = "easydel"


def open_tracker(*, folder: Path, run_name: str, config: Mapping[str, Any], done: int) -> TrackioTracker:
    """Begins a run, or goes on with that of this name, if steps of it are `done`. The database is trackio's own."""
    del folder
    values = {name: value for name, value in config.items() if not name.startswith("_")}
    return TrackioTracker(
        trackio.init(project=_PROJECT, name=run_name, config=values, resume="allow" if done else "never")
    )


@final
class TrackioTracker:
    """Numbers and texts by step."""

    def __init__(self, run: Any):
        self._run = run

    def log(self, record: Mapping[str, float]) -> None:
        """Logs all numbers at their step."""
        self._run.log({name: value for name, value in record.items() if name != "step"}, step=int(record["step"]))

    def log_texts(self, name: str, texts: Mapping[str, str], *, step: int) -> None:
        """Logs each text under its title."""
        self._run.log({f"{name}/{title[:60]}": text for title, text in texts.items()}, step=step)

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()
