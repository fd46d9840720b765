"""What `easydel sft` does once its config is read: measure, train, measure again, save, show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from easydel.cli.errors import GoalMissedError
from easydel.cli.locations import model_location, open_rows, tokenizer_at
from easydel.cli.previews import greedy_answers, questions_of
from easydel.cli.shown import show_curve

if TYPE_CHECKING:
    from easydata_sources import ShardedDataSource
    from easydel_trainers import SFTTrainer

    from easydel.cli.sft import SFTRun


@dataclass(frozen=True, slots=True)
class _Rows:
    train: ShardedDataSource
    held_out: ShardedDataSource | None


def fine_tune(config: SFTRun) -> None:
    """Fine-tune as `config` says and print what came of it.

    Raises:
        GoalMissedError: if the held-out loss fell by less than the config demands; everything is saved
            nevertheless.
    """
    console = Console()
    folder = Path(str(config.training.save_directory))
    rows = _open_both(config, folder / "rows")
    trainer, tokenizer = _build(config, rows)
    questions = [*config.preview_questions]
    if rows.held_out is not None:
        questions += questions_of(rows.held_out.rows(), config.preview_rows)

    def answers() -> list[str]:
        return greedy_answers(trainer.model, tokenizer, questions, max_new_tokens=config.preview_max_tokens)

    answers_before, loss_before = answers(), _held_out_loss(trainer, rows)
    output = trainer.train()
    answers_after, loss_after = answers(), _held_out_loss(trainer, rows)
    trainer.save_pretrained(str(folder / "model"))

    for question, before, after in zip(questions, answers_before, answers_after, strict=True):
        _show_answers(console, question, before, after)
    show_curve(console, output)
    console.print(Text(output.summary()), soft_wrap=True)
    console.print(Text(f"Model folder: {folder / 'model'}"), soft_wrap=True)
    if loss_before is not None and loss_after is not None:
        _judge(console, loss_before, loss_after, config.require_nll_drop)


def _open_both(config: SFTRun, made_rows: Path) -> _Rows:
    train = open_rows(config.train_dataset, made_rows)
    if config.eval_dataset is None:
        return _Rows(train, None)
    held_out = open_rows(config.eval_dataset, made_rows)
    return _Rows(train, held_out if config.eval_rows is None else held_out.limit(config.eval_rows))


def _build(config: SFTRun, rows: _Rows) -> tuple[SFTTrainer, Any]:
    from easydel_trainers import SFTTrainer

    location = model_location(config.model)
    tokenizer = tokenizer_at(model_location(config.tokenizer) if config.tokenizer else location)
    # The model goes in by name, so that the trainer reads it only after the rows were found to be good.
    trainer = SFTTrainer(
        model=location,
        arguments=config.training,
        processing_class=tokenizer,
        train_dataset=rows.train,
        eval_dataset=rows.held_out,
    )
    return trainer, tokenizer


def _held_out_loss(trainer: SFTTrainer, rows: _Rows) -> float | None:
    return None if rows.held_out is None else trainer.evaluate()["eval_loss"]


def _show_answers(console: Console, question: str, before: str, after: str) -> None:
    body = Text.assemble(("before  ", "bold"), before, "\n", ("after   ", "bold"), after)
    console.print(Panel(body, title=Text(question), title_align="left"))


def _judge(console: Console, before: float, after: float, demanded: float | None) -> None:
    drop = 1 - after / before
    verdict = f"Held-out negative log-likelihood per token: {before:.4f} before, {after:.4f} after ({-drop:+.1%})"
    console.print(Text(verdict, style="bold"), soft_wrap=True)
    if demanded is not None and drop < demanded:
        raise GoalMissedError(
            f"The held-out negative log-likelihood went from {before:.4f} to {after:.4f}, "
            f"a fall of {drop:.1%}; require_nll_drop demands {demanded:.1%}. Train longer "
            "(training.max_training_steps) or with another training.learning_rate."
        )
