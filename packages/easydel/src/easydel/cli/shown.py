"""What training commands print when they end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from easydel.cli.curve import draw_curve

if TYPE_CHECKING:
    from easydel_trainers import TrainOutput


def show_curve(console: Console, output: TrainOutput) -> None:
    """Draw the training loss by step; nothing if no step was taken."""
    points = [(entry["step"], entry["loss"]) for entry in output.history if "loss" in entry]
    if not points:
        return  # resumed after the last step: nothing was trained, so there is nothing to draw
    steps, losses = zip(*points, strict=True)
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    console.print(Text("Training loss by step", style="bold"))
    console.print(Text("\n".join(draw_curve(steps, losses, unicode=unicode))))
