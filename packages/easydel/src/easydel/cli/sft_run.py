"""What `easydel sft` does once its config is read: measure, train, measure again, save, show."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from easydel.cli.assembly import assembled, held_out_rows
from easydel.cli.errors import GoalMissedError
from easydel.cli.held_out import prefixes
from easydel.cli.left_behind import LeavesConfig, leave_held_out
from easydel.cli.previews import questions_of
from easydel.cli.shown import console_for, say, show_curve, show_end

if TYPE_CHECKING:
    from easydel.cli.sft import SFTRun


def conduct(config: SFTRun, trainer_name: str, *, as_json: bool) -> None:
    """Fine-tune as `config` says and print what came of it.

    Raises:
        GoalMissedError: if the held-out loss fell by less than the config demands; everything is saved
            nevertheless.
    """
    from easydel_trainers.run.previews import greedy_answers

    console = console_for(as_json)
    folder = Path(str(config.training.save_directory))
    say("reading rows and model")
    callbacks = (LeavesConfig(config),)
    trainer = assembled(config, trainer_name, made_rows=folder / "rows", callbacks=callbacks)
    held_out = held_out_rows(config, folder / "rows")
    questions = [*config.preview_questions]
    questions += questions_of(chain.from_iterable(rows.rows() for rows in held_out.values()), config.preview_rows)

    def answers() -> list[str]:
        tokenizer, longest = trainer.processing_class, config.preview_max_tokens
        return greedy_answers(trainer.model, tokenizer, questions, max_new_tokens=longest) if questions else []

    def measured() -> dict[str, float]:
        return trainer.evaluate() if held_out else {}

    say("answering and measuring what is held out")
    answers_before, before = answers(), measured()
    say("training")
    output = trainer.train()
    say("answering and measuring again")
    answers_after, after = answers(), measured()
    trainer.save_pretrained(str(folder / "model"))

    previews = list(zip(questions, answers_before, answers_after, strict=True))
    for question, earlier, later in previews:
        _show_answers(console, question, earlier, later)
    show_curve(console, output)
    shown = [{"prompt": question, "before": earlier, "after": later} for question, earlier, later in previews]
    leave_held_out(folder, before, after, shown)
    show_end(console, output, folder, as_json=as_json, before=before, after=after, previews=shown)
    losses = {
        name: (before[f"{prefix}loss"], after[f"{prefix}loss"])
        for name, prefix in prefixes(config.eval_dataset).items()
    }
    for name, (earlier, later) in losses.items():
        _show_losses(console, name, earlier, later)
    for name, (earlier, later) in losses.items():
        _demand(name, earlier, later, config.require_nll_drop)


def _show_answers(console: Console, question: str, before: str, after: str) -> None:
    body = Text.assemble(("before  ", "bold"), before, "\n", ("after   ", "bold"), after)
    console.print(Panel(body, title=Text(question), title_align="left"))


def _show_losses(console: Console, name: str, before: float, after: float) -> None:
    losses = f"{before:.4f} before, {after:.4f} after ({after / before - 1:+.1%})"
    verdict = f"Held-out negative log-likelihood per token{_of_set(name)}: {losses}"
    console.print(Text(verdict, style="bold"), soft_wrap=True)


def _demand(name: str, before: float, after: float, demanded: float | None) -> None:
    drop = 1 - after / before
    if demanded is not None and drop < demanded:
        raise GoalMissedError(
            f"The held-out negative log-likelihood{_of_set(name)} went from {before:.4f} to {after:.4f}, "
            f"a fall of {drop:.1%}; require_nll_drop demands {demanded:.1%}. Train longer "
            "(training.max_training_steps) or with another training.learning_rate."
        )


def _of_set(name: str) -> str:
    return f" of {name}" if name else ""
