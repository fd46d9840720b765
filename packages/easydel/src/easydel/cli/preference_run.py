"""What the commands on preferences do once their config is read: measure, train, measure again, save, show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from easydel.cli.assembly import assembled
from easydel.cli.held_out import prefixes
from easydel.cli.left_behind import LeavesConfig, leave_held_out
from easydel.cli.shown import console_for, say, show_curve, show_end

# What tells whether preferences were learned; a trainer measures some of them.
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


def conduct(config: Any, trainer_name: str, *, as_json: bool) -> None:
    """Train as `config` says and print what came of it."""
    console = console_for(as_json)
    folder = Path(config.training.save_directory)
    say("reading rows and model")
    callbacks = (LeavesConfig(config),)
    trainer = assembled(config, trainer_name, made_rows=folder / "rows", callbacks=callbacks)

    def measured() -> dict[str, float]:
        return trainer.evaluate() if config.eval_dataset is not None else {}

    say("measuring what is held out")
    before = measured()
    say("training")
    output = trainer.train()
    say("measuring again")
    after = measured()
    trainer.save_pretrained(str(folder / "model"))
    leave_held_out(folder, before, after)
    show_curve(console, output)
    for name, prefix in prefixes(config.eval_dataset).items():
        _show_measures(console, name, prefix, before, after)
    show_end(console, output, folder, as_json=as_json, before=before, after=after)


def _show_measures(console: Console, name: str, prefix: str, before: dict[str, float], after: dict[str, float]) -> None:
    measured = [metric for metric in _TELLING if prefix + metric in after]
    if not measured:
        return
    table = Table(f"held out {name}".strip(), "before", "after", title_justify="left")
    for metric in measured:
        table.add_row(metric, f"{before[prefix + metric]:.4f}", f"{after[prefix + metric]:.4f}")
    console.print(table)
