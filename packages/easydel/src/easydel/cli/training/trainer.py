"""From a run's config to a trainer; or, to look at its rows alone, to their data without a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from easydel.cli.training.configs import TRAINING_COMMANDS, GRPORun, ReferencedRun, Run, SFTRun
from easydel.cli.training.rows import open_rows

if TYPE_CHECKING:
    from easydata_sources import ShardedDataSource


def build_trainer(config: Run, *, made_rows: Path, callbacks: tuple[Any, ...] = ()) -> Any:
    """Returns the trainer that a config describes.

    Args:
        config: of one of the training commands.
        made_rows: folder for rows that this machine makes.
        callbacks: of the trainer.
    """
    options: dict[str, Any] = {}
    if isinstance(config, ReferencedRun) and config.reference_model is not None:
        options["reference_model"] = config.reference_model
    if isinstance(config, GRPORun):
        from easydel.cli.training.rewards import reward_at

        options["reward_funcs"] = [reward_at(name) for name in config.reward_funcs]
    # The model goes in by name, so that the trainer reads it only after the rows were found to be good.
    return TRAINING_COMMANDS[config.trainer].trainer_class(
        config.model, **_rows_and_tokenizer(config, made_rows), callbacks=callbacks, **options
    )


def training_data(config: Run, *, made_rows: Path) -> Any:
    """Returns the rows of such a trainer, without a model."""
    return TRAINING_COMMANDS[config.trainer].trainer_class.without_model(**_rows_and_tokenizer(config, made_rows))


def row_transform(config: Run, tokenizer: Any) -> tuple[Any, Any]:
    """Returns the tokenizer of a training (or the one given), and what its trainer does to every row."""
    tokenizer = tokenizer_of(config) if tokenizer is None else tokenizer
    options = {"arguments": without_held_out(config).training, "processing_class": tokenizer}
    data = TRAINING_COMMANDS[config.trainer].trainer_class.without_model(**options, train_dataset=None)
    return tokenizer, data.row_transform()


def without_held_out(config: Run) -> Run:
    """Returns the config of the same training without held-out rows, and so without what means nothing without them."""
    options: dict[str, Any] = {"eval_dataset": None, "eval_rows": None}
    if isinstance(config, SFTRun):
        options |= {"preview_rows": 0, "require_nll_drop": None}
    plain = {"evaluation_steps": None, "metric_for_best_model": None}
    plain |= {"load_best_model_at_end": False, "greater_is_better": None}
    return replace(config, **options, training=replace(config.training, **plain))


def held_out_rows(config: Run, made_rows: Path) -> dict[str, ShardedDataSource]:
    """Returns the sets of rows to measure on, by name; a single one has the name ""."""
    sets = config.eval_dataset
    if sets is None:
        return {}
    named = {"": sets} if isinstance(sets, str) else sets
    opened = {name: open_rows(rows, made_rows) for name, rows in named.items()}
    return {name: rows if config.eval_rows is None else rows.limit(config.eval_rows) for name, rows in opened.items()}


def tokenizer_of(config: Run) -> Any:
    """Returns the tokenizer that a config names, or its model's own."""
    from easydata_tokenize import load_tokenizer

    return load_tokenizer(config.tokenizer or config.model)


def _rows_and_tokenizer(config: Run, made_rows: Path) -> dict[str, Any]:
    held_out = held_out_rows(config, made_rows)
    return {
        "arguments": config.training,
        "processing_class": tokenizer_of(config),
        "train_dataset": open_rows(config.train_dataset, made_rows),
        "eval_dataset": held_out.get("", held_out or None),
    }
