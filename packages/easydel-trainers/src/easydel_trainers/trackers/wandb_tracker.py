"""Weights & Biases. Without an API key the run is kept in `wandb/` of the run's folder, for `wandb sync` later."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import wandb  # pyright: ignore[reportMissingImports] - an extra


def open_tracker(*, folder: Path, run_name: str, config: Mapping[str, Any]) -> WandbTracker:
    """Begin a run; online only where an API key or `WANDB_MODE` says so, since it must not wait for a login."""
    online = "WANDB_API_KEY" in os.environ
    folder.mkdir(parents=True, exist_ok=True)
    run = wandb.init(
        name=run_name,
        dir=str(folder),
        config=dict(config),
        mode=None if online or "WANDB_MODE" in os.environ else "offline",
        reinit="create_new",
    )
    return WandbTracker(run)


@final
class WandbTracker:
    """Numbers and tables by step."""

    def __init__(self, run: Any):
        self._run = run

    def log(self, record: Mapping[str, float]) -> None:
        """Log all numbers at their step."""
        self._run.log({name: value for name, value in record.items() if name != "step"}, step=int(record["step"]))

    def log_texts(self, name: str, texts: Mapping[str, str], *, step: int) -> None:
        """Log a table of two columns."""
        table = wandb.Table(columns=["title", "text"], data=[[title, text] for title, text in texts.items()])
        self._run.log({name: table}, step=step)

    def close(self) -> None:
        """End the run."""
        self._run.finish(quiet=True)
