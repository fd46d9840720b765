"""From a run's config to a trainer, with a model or, to look at its rows, without one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from easydel.cli.locations import model_location, open_rows, tokenizer_at

if TYPE_CHECKING:
    from easydata_sources import ShardedDataSource

    from easydel.cli.run_config import RunConfig


def assembled(config: RunConfig, trainer: str, *, made_rows: Path, callbacks: tuple[Any, ...] = ()) -> Any:
    """The trainer that a config describes.

    Args:
        config: of one of the training commands.
        trainer: its trainer's name in `easydel_trainers`.
        made_rows: folder for rows that are made on the spot.
        callbacks: of the trainer.
    """
    import easydel_trainers

    # The model goes in by name, so that the trainer reads it only after the rows were found to be good.
    return getattr(easydel_trainers, trainer)(
        model_location(config.model),
        **_rows_and_tokenizer(config, made_rows),
        callbacks=callbacks,
        **config.trainer_options(),
    )


def assembled_without_model(config: RunConfig, trainer: str, *, made_rows: Path) -> Any:
    """The rows of such a trainer, without a model."""
    import easydel_trainers

    return getattr(easydel_trainers, trainer).without_model(**_rows_and_tokenizer(config, made_rows))


def row_transform(config: RunConfig, trainer: str, tokenizer: Any) -> tuple[Any, Any]:
    """The tokenizer of a training (or the one given), and what its trainer does to every row."""
    import easydel_trainers

    tokenizer = tokenizer_of(config) if tokenizer is None else tokenizer
    options = {"arguments": without_held_out(config).training, "processing_class": tokenizer}
    looking = getattr(easydel_trainers, trainer).without_model(**options, train_dataset=None)
    return tokenizer, looking.row_transform()


def without_held_out(config: Any) -> Any:
    """The config of the same training without held-out rows, and so without what means nothing without them."""
    options: dict[str, Any] = {"eval_dataset": None, "eval_rows": None}
    if hasattr(config, "preview_rows"):
        options |= {"preview_rows": 0, "require_nll_drop": None}
    plain = {"evaluation_steps": None, "metric_for_best_model": None}
    plain |= {"load_best_model_at_end": False, "greater_is_better": None}
    return replace(config, **options, training=replace(config.training, **plain))


def held_out_rows(config: RunConfig, made_rows: Path) -> dict[str, ShardedDataSource]:
    """The sets of rows to measure on, by name; a single one has the name ""."""
    sets = config.eval_dataset
    if sets is None:
        return {}
    opened = {
        name: open_rows(place, made_rows) for name, place in ({"": sets} if isinstance(sets, str) else sets).items()
    }
    return {name: rows if config.eval_rows is None else rows.limit(config.eval_rows) for name, rows in opened.items()}


def tokenizer_of(config: RunConfig) -> Any:
    """The tokenizer that a config names, or its model's own."""
    return tokenizer_at(model_location(config.tokenizer or config.model))


def _rows_and_tokenizer(config: RunConfig, made_rows: Path) -> dict[str, Any]:
    held_out = held_out_rows(config, made_rows)
    return {
        "arguments": config.training,  # pyright: ignore[reportAttributeAccessIssue] - every command adds its own
        "processing_class": tokenizer_of(config),
        "train_dataset": open_rows(config.train_dataset, made_rows),
        "eval_dataset": held_out.get("", held_out or None),
    }
