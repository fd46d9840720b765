"""What training commands print when they end: for people, or as JSON for scripts."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from easydel.cli.consoles import harmless_console
from easydel.cli.curve import draw_curve

if TYPE_CHECKING:
    from easydel_trainers import TrainOutput


def console_for(as_json: bool) -> Console:
    """Where to print what people read: nowhere, if a script reads the output."""
    return harmless_console(quiet=as_json)


def say(stage: str) -> None:
    """Tell on standard error what the command is at, so that no one waits without knowing for what."""
    print(f"easydel: {stage}", file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print one line of JSON; numbers that are none (NaN, infinities) become null, as JSON has no word for them."""
    # Escaped here rather than on the way out, where a backslash would be no JSON.
    text = json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)
    print("".join(character if character.isprintable() else json.dumps(character)[1:-1] for character in text))


def show_end(
    console: Console,
    output: TrainOutput,
    folder: Path,
    *,
    as_json: bool,
    before: dict[str, float],
    after: dict[str, float],
    **more: Any,
) -> None:
    """Say how a run went and where its files are.

    Args:
        console: for people.
        output: what the run gave back.
        folder: its `save_directory`.
        as_json: print JSON, not text.
        before: what was measured on held-out rows before training.
        after: the same behind it.
        more: further keys of the JSON.
    """
    model, report = folder / "model", folder / "report.html"
    if as_json:
        print_json(
            {
                "steps": output.global_step,
                "metrics": output.metrics,
                "data_report": output.data_report,
                "held_out": {"before": before, "after": after},
                "save_directory": str(folder),
                "model": str(model),
                "report": str(report),
                **more,
            }
        )
    console.print(Text(output.summary()), soft_wrap=True)
    console.print(Text(f"Model folder: {model}"), soft_wrap=True)
    console.print(Text(f"Report: {report}"), soft_wrap=True)
    console.print(Text(f"Talk to it: easydel chat {model}"), soft_wrap=True)


def show_curve(console: Console, output: TrainOutput) -> None:
    """Draw the training loss by step; nothing if no step was taken."""
    points = [(entry["step"], entry["loss"]) for entry in output.history if "loss" in entry]
    if not points:
        return  # resumed after the last step: nothing was trained, so there is nothing to draw
    steps, losses = zip(*points, strict=True)
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    console.print(Text("Training loss by step", style="bold"))
    console.print(Text("\n".join(draw_curve(steps, losses, unicode=unicode))))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
