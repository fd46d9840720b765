"""A training from one config: measure, train, measure again, save, show. The same for every command that trains.

What is measured are the held-out rows, by the trainer's own metrics; supervised fine-tuning also answers questions, for
a person to read, and may demand that the held-out loss falls.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from easydel_trainers.processes import is_main_process
from easydel_trainers.records.files import write_whole
from easydel_trainers.run.callbacks import Callback
from easydel_trainers.run.previews import greedy_answers

from easydel.cli.output.errors import CommandError, GoalMissedError
from easydel.cli.output.results import (
    Preview,
    console_for,
    print_answers,
    print_curve,
    print_end,
    print_losses,
    print_measures,
    say,
)
from easydel.cli.training.config_yaml import RUN_FILE, config_as_yaml
from easydel.cli.training.configs import Run, SFTRun
from easydel.cli.training.rows import metric_prefixes
from easydel.cli.training.trainer import build_trainer, held_out_rows

HELD_OUT_FILE = "held_out.json"
"""What a run's folder holds of what was measured before and after."""


def run_training(config: Run, *, as_json: bool) -> None:
    """Trains as `config` says and prints what came of it.

    Raises:
        GoalMissedError: if the held-out loss fell by less than the config demands; everything is saved
            nevertheless.
    """
    console = console_for(as_json)
    folder = Path(str(config.training.save_directory))
    say("reading rows and model")
    trainer = build_trainer(config, made_rows=folder / "rows", callbacks=(WritesConfig(config),))
    questions = _questions(config, folder / "rows")

    say("measuring what is held out")
    before = _measured(trainer, config, questions)
    say("training")
    output = trainer.train()
    say("measuring again")
    after = _measured(trainer, config, questions)
    trainer.save_pretrained(str(folder / "model"))

    answers = zip(questions, before.answers, after.answers, strict=True)
    previews = [Preview(prompt=question, before=was, after=now) for question, was, now in answers]
    _write_held_out(folder, before, after, previews)
    print_answers(console, previews)
    print_curve(console, output)
    sets = metric_prefixes(config.eval_dataset)
    if not isinstance(config, SFTRun):
        print_measures(console, sets, before.metrics, after.metrics)
    print_end(console, output, folder, as_json=as_json, before=before.metrics, after=after.metrics, previews=previews)
    if isinstance(config, SFTRun):
        losses = {name: (before.metrics[f"{key}loss"], after.metrics[f"{key}loss"]) for name, key in sets.items()}
        print_losses(console, losses)
        _demand(losses, config.require_nll_drop)


@final
class WritesConfig(Callback):
    """Writes the config as `run.yaml` once the run has begun: one that is refused changes nothing in the folder.

    Args:
        config: of the command.
    """

    def __init__(self, config: Run):
        self._config = config

    def on_begin(self, run: Any) -> None:
        """Writes it."""
        run.write_file(RUN_FILE, config_as_yaml(self._config))


def questions_of(rows: Iterable[Mapping[str, Any]], count: int) -> list[str]:
    """Returns the user's first words in each of the first `count` rows.

    Raises:
        CommandError: if a row has neither a `prompt` nor `messages`.
    """
    return [_question(row) for row in itertools.islice(rows, count)]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class _Measured:
    """What a model does with held-out rows at one moment."""

    metrics: dict[str, float]
    answers: list[str]


def _measured(trainer: Any, config: Run, questions: Sequence[str]) -> _Measured:
    answers: list[str] = []
    if isinstance(config, SFTRun) and questions:
        longest = config.preview_max_tokens
        answers = greedy_answers(trainer.model, trainer.processing_class, questions, max_new_tokens=longest)
    return _Measured(metrics={} if config.eval_dataset is None else trainer.evaluate(), answers=answers)


def _questions(config: Run, made_rows: Path) -> list[str]:
    if not isinstance(config, SFTRun):
        return []
    held_out = itertools.chain.from_iterable(rows.rows() for rows in held_out_rows(config, made_rows).values())
    return [*config.preview_questions, *questions_of(held_out, config.preview_rows)]


def _question(row: Mapping[str, Any]) -> str:
    prompt = row.get("prompt", row.get("messages"))
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, Sequence):
        for message in prompt:
            if message["role"] == "user":
                return message["content"]
    raise CommandError(
        f"preview_rows reads questions from the held-out rows' `prompt` or `messages`; a row has only "
        f"{', '.join(sorted(row))}. Write the questions into `preview_questions` instead."
    )


def _write_held_out(folder: Path, before: _Measured, after: _Measured, previews: Sequence[Preview]) -> None:
    """Keeps what was measured and answered, if anything was."""
    if (before.metrics or previews) and is_main_process():
        found = {"before": before.metrics, "after": after.metrics, "answers": list(previews)}
        write_whole(folder / HELD_OUT_FILE, json.dumps(found, indent=2, ensure_ascii=False) + "\n")


def _demand(losses: Mapping[str, tuple[float, float]], demanded: float | None) -> None:
    for name, (before, after) in losses.items():
        drop = 1 - after / before
        if demanded is not None and drop < demanded:
            raise GoalMissedError(
                f"The held-out negative log-likelihood{f' of {name}' * bool(name)} went from {before:.4f} to "
                f"{after:.4f}, a fall of {drop:.1%}; require_nll_drop demands {demanded:.1%}. Train longer "
                "(training.max_training_steps) or with another training.learning_rate."
            )
