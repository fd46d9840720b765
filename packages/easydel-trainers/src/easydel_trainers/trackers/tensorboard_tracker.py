"""TensorBoard: event files in `tensorboard/` of the run's folder. Needs no network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports] - an extra


def open_tracker(*, folder: Path, run_name: str, config: Mapping[str, Any], done: int) -> TensorBoardTracker:
    """Begins an event file; it takes the place of what earlier ones say of steps that are not `done`."""
    purge = done + 1 if done else None
    writer = SummaryWriter(str(folder / "tensorboard" / run_name), purge_step=purge)
    writer.add_text("config", "\n".join(f"    {name}: {value}" for name, value in config.items()), 0)
    return TensorBoardTracker(writer)


@final
class TensorBoardTracker:
    """Scalars and texts by step."""

    def __init__(self, writer: SummaryWriter):
        self._writer = writer

    def log(self, record: Mapping[str, float]) -> None:
        """Writes each number as a scalar."""
        step = int(record["step"])
        for name, value in record.items():
            if name != "step":
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def log_texts(self, name: str, texts: Mapping[str, str], *, step: int) -> None:
        """Writes each text under its title."""
        for title, text in texts.items():
            self._writer.add_text(f"{name}/{title[:60]}", text, step)

    def close(self) -> None:
        """Closes the event file."""
        self._writer.close()
