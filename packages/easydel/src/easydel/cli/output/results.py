"""What training commands print when they end: for people, or as JSON for scripts."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from easydel.cli.output.console import harmless_console, print_json
from easydel.cli.output.curve import draw_curve

if TYPE_CHECKING:
    from easydel_trainers import TrainOutput

#: metrics that tell whether preferences were learned; a trainer measures some of them
_TELLING = (
    "loss",
    "rewards/accuracies",
    "accuracy",
    "rewards/margins",
    "margin",
    "rewards/chosen",
    "rewards/rejected",
    "reward",
)


class Preview(TypedDict):
    """A question, and a model's answers to it."""

    prompt: str
    before: str
    after: str


def console_for(as_json: bool) -> Console:
    """Returns where to print what people read: nowhere, if a script reads the output."""
    return harmless_console(quiet=as_json)


def say(stage: str) -> None:
    """Tells on standard error what the command is at, so that no one waits without knowing for what."""
    print(f"easydel: {stage}", file=sys.stderr, flush=True)


def print_answers(console: Console, previews: Sequence[Preview]) -> None:
    """Shows what a model answered before and after."""
    for preview in previews:
        body = Text.assemble(("before  ", "bold"), preview["before"], "\n", ("after   ", "bold"), preview["after"])
        console.print(Panel(body, title=Text(preview["prompt"]), title_align="left"))


def print_curve(console: Console, output: TrainOutput) -> None:
    """Draws the training loss by step; nothing if no step was taken."""
    points = [(entry["step"], entry["loss"]) for entry in output.history if "loss" in entry]
    if not points:
        return  # resumed after the last step: nothing was trained, so there is nothing to draw
    steps, losses = zip(*points, strict=True)
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    console.print(Text("Training loss by step", style="bold"))
    console.print(Text("\n".join(draw_curve(steps, losses, unicode=unicode))))


def print_measures(
    console: Console, sets: Mapping[str, str], before: Mapping[str, float], after: Mapping[str, float]
) -> None:
    """Shows what was measured on held-out rows, a table for each set.

    Args:
        console: for people.
        sets: what the metrics of each set begin with, by the set's name.
        before: metrics before training.
        after: the same behind it.
    """
    for name, prefix in sets.items():
        measured = [metric for metric in _TELLING if prefix + metric in after]
        if not measured:
            continue
        table = Table(f"held out {name}".strip(), "before", "after", title_justify="left")
        for metric in measured:
            table.add_row(metric, f"{before[prefix + metric]:.4f}", f"{after[prefix + metric]:.4f}")
        console.print(table)


def print_losses(console: Console, losses: Mapping[str, tuple[float, float]]) -> None:
    """Says how the held-out loss of each set changed."""
    for name, (before, after) in losses.items():
        of_set = f" of {name}" if name else ""
        change = f"{before:.4f} before, {after:.4f} after ({after / before - 1:+.1%})"
        verdict = Text(f"Held-out negative log-likelihood per token{of_set}: {change}", style="bold")
        console.print(verdict, soft_wrap=True)


def print_end(
    console: Console,
    output: TrainOutput,
    folder: Path,
    *,
    as_json: bool,
    before: Mapping[str, float],
    after: Mapping[str, float],
    previews: Sequence[Preview],
) -> None:
    """Says how a run went and where its files are.

    Args:
        console: for people.
        output: what the run gave back.
        folder: its `save_directory`.
        as_json: print JSON, not text.
        before: what was measured on held-out rows before training.
        after: the same behind it.
        previews: what was answered before and after.
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
                "previews": previews,
            }
        )
    console.print(Text(output.summary()), soft_wrap=True)
    console.print(Text(f"Model folder: {model}"), soft_wrap=True)
    console.print(Text(f"Report: {report}"), soft_wrap=True)
    console.print(Text(f"Talk to it: easydel chat {model}"), soft_wrap=True)
