"""Weights & Biases. Without an API key the run is kept in `wandb/` of the run's folder, for `wandb sync` later."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import wandb  # pyright: ignore[reportMissingImports] - an extra

_RUN_ID = Path("wandb", "easydel_run_id")  # in the run's folder


def open_tracker(*, folder: Path, run_name: str, config: Mapping[str, Any], done: int) -> WandbTracker:
    """Begins a run, or goes on with the folder's own, if steps of it are `done`.

    Online only where an API key or `WANDB_MODE` says so, since it must not wait for a login.
    """
    online = "WANDB_API_KEY" in os.environ
    run = wandb.init(
        id=_run_id(folder, goes_on=done > 0),
        resume="allow",
        name=run_name,
        dir=str(folder),
        config=dict(config),
        allow_val_change=True,  # of what a resumed run may change, such as its length
        mode=None if online or "WANDB_MODE" in os.environ else "offline",
        reinit="create_new",
    )
    # Steps as a metric of their own: W&B drops what comes for an earlier one of its own steps, and a resumed run takes
    # those behind its checkpoint again.
    run.define_metric("step")
    run.define_metric("*", step_metric="step")
    return WandbTracker(run)


@final
class WandbTracker:
    """Numbers and tables by step."""

    def __init__(self, run: Any):
        self._run = run

    def log(self, record: Mapping[str, float]) -> None:
        """Logs all numbers, their step among them."""
        self._run.log(dict(record))

    def log_texts(self, name: str, texts: Mapping[str, str], *, step: int) -> None:
        """Logs a table of two columns."""
        table = wandb.Table(columns=["title", "text"], data=[[title, text] for title, text in texts.items()])
        self._run.log({name: table, "step": step})

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()


def _run_id(folder: Path, *, goes_on: bool) -> str:
    path = folder / _RUN_ID
    held = path.read_text(encoding="utf-8").strip() if goes_on and path.is_file() else ""
    if re.fullmatch("[0-9a-f]{16}", held):
        return held
    fresh = secrets.token_hex(8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(fresh + "\n", encoding="utf-8")
    return fresh
