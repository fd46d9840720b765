"""What the commands on preferences do once their config is read: measure, train, measure again, save, show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from easydel.cli.locations import model_location, open_rows, tokenizer_at
from easydel.cli.shown import show_curve

if TYPE_CHECKING:
    from easydel.cli.preference import PreferenceRun

# What tells whether preferences were learned; a trainer measures some of them.
_TELLING = ("loss", "rewards/accuracies", "accuracy", "rewards/margins", "margin", "rewards/chosen", "rewards/rejected")


def train_on_preferences(config: PreferenceRun, trainer_name: str) -> None:
    """Train as `config` says and print what came of it."""
    console = Console()
    folder = Path(str(config.training.save_directory))  # pyright: ignore[reportAttributeAccessIssue]
    trainer = _build(config, trainer_name, folder / "rows")
    before = trainer.evaluate() if config.eval_dataset is not None else {}
    output = trainer.train()
    after = trainer.evaluate() if config.eval_dataset is not None else {}
    trainer.save_pretrained(str(folder / "model"))
    show_curve(console, output)
    console.print(Text(output.summary()), soft_wrap=True)
    _show_measures(console, before, after)
    console.print(Text(f"Model folder: {folder / 'model'}"), soft_wrap=True)
    console.print(Text(f"Report: {folder / 'report.html'}"), soft_wrap=True)


def _build(config: PreferenceRun, trainer_name: str, made_rows: Path) -> Any:
    import easydel_trainers

    location = model_location(config.model)
    held_out = None if config.eval_dataset is None else open_rows(config.eval_dataset, made_rows)
    if held_out is not None and config.eval_rows is not None:
        held_out = held_out.limit(config.eval_rows)
    reference = getattr(config, "reference_model", None)
    options = {} if reference is None else {"reference_model": model_location(reference)}
    # The model goes in by name, so that the trainer reads it only after the rows were found to be good.
    return getattr(easydel_trainers, trainer_name)(
        location,
        config.training,  # pyright: ignore[reportAttributeAccessIssue]
        processing_class=tokenizer_at(model_location(config.tokenizer) if config.tokenizer else location),
        train_dataset=open_rows(config.train_dataset, made_rows),
        eval_dataset=held_out,
        **options,
    )


def _show_measures(console: Console, before: dict[str, float], after: dict[str, float]) -> None:
    names = [name for name in _TELLING if f"eval_{name}" in after]
    if not names:
        return
    table = Table("held out", "before", "after", title_justify="left")
    for name in names:
        table.add_row(name, f"{before[f'eval_{name}']:.4f}", f"{after[f'eval_{name}']:.4f}")
    console.print(table)
