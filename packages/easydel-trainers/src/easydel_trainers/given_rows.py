"""The rows a trainer was given: opened, put into the order of training, bad ones taken out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from easydata_sources import BadRows, CountingTransform, ShardedDataSource, as_sharded_source
from easydata_sources.bad_row import Care
from easydata_sources.bad_rows import SetAside
from easydata_sources.transform import BATCH_ROWS

from easydel_trainers.config import TrainerConfig
from easydel_trainers.data.epochs import EpochRows, NoRowsError
from easydel_trainers.data.layout import Row
from easydel_trainers.data.row_exchange import RowExchange
from easydel_trainers.errors import ConfigError


class GivenRows:
    """Training and held-out rows, and how the config wants them read.

    Args:
        config: the trainer's.
        train_dataset: what `as_sharded_source` takes, or `None`.
        eval_dataset: the same, or a dict of several by name.

    Raises:
        ConfigError: if a held-out set has no proper name.
        DataError: if something is no data set.
    """

    def __init__(self, config: TrainerConfig, train_dataset: Any, eval_dataset: Any):
        self._config = config
        self.vocab_size: int | None = None
        """Tokens that the model knows, which all rows are held to once there is a model."""
        self.positions: int | None = None
        """Longest sequence that the model was made for, once there is a model."""
        self.bad = self.make_set_aside()
        """What takes the bad rows of the run out; its counts belong into the data report."""
        self.train = None if train_dataset is None else self._careful(as_sharded_source(train_dataset, name="train"))
        held_out = held_out_sources(eval_dataset)
        self.held_out = {name: self._careful(source) for name, source in held_out.items()}
        """Held-out sources by name; a single one has the name ""."""

    @property
    def by_name(self) -> dict[str, ShardedDataSource]:
        """All sources, by what users gave them as."""
        train = {} if self.train is None else {"train_dataset": self.train}
        held_out = {f"eval_dataset {name!r}" if name else "eval_dataset": rows for name, rows in self.held_out.items()}
        return train | held_out

    @property
    def required(self) -> ShardedDataSource:
        """The training rows.

        Raises:
            ConfigError: if there are none.
        """
        if self.train is None:
            raise ConfigError("train_dataset", None, "rows to train on")
        return self.train

    @property
    def shuffle_seed(self) -> int | None:
        """Seed of the order of training rows; `None` = the data's own order."""
        config = self._config
        seed = config.seed if config.shuffle_seed_train is None else config.shuffle_seed_train
        return seed if config.shuffle_train_dataset else None

    def in_order(
        self,
        transform: CountingTransform,
        *,
        state: dict[str, Any] | None = None,
        bad_rows: SetAside | None = None,
        exchange: RowExchange | None = None,
    ) -> EpochRows:
        """Training rows in the order of the run, epoch after epoch.

        Args:
            transform: what makes trainable rows of them.
            state: where to go on; `None` = at the start.
            bad_rows: what counts the bad ones; `None` = a new counter.
            exchange: with the other processes that prepare these rows.
        """
        config = self._config
        return EpochRows(
            self.required,
            transform,
            epochs=None if config.max_training_steps else config.num_train_epochs,
            shuffle_seed=self.shuffle_seed,
            bad_rows=bad_rows or self.make_set_aside(),
            state=state,
            exchange=exchange,
            vocab_size=self.vocab_size,
        )

    def once(
        self,
        source: ShardedDataSource,
        transform: CountingTransform,
        *,
        shuffle_seed: int | None = None,
        exchange: RowExchange | None = None,
    ) -> EpochRows:
        """One pass over a source, in its own order unless a seed is given."""
        return EpochRows(
            source,
            transform,
            epochs=1,
            shuffle_seed=shuffle_seed,
            bad_rows=self.make_set_aside(),
            exchange=exchange,
            vocab_size=self.vocab_size,
        )

    def try_first(self, source: ShardedDataSource, transform: CountingTransform) -> list[Row]:
        """Read and transform a few rows, so that a wrong layout is refused before anything is compiled.

        Returns:
            What they became; none where all of them were dropped.

        Raises:
            DataError: if they cannot be read or recognised, or hold a token that the model does not know.
        """
        rows = EpochRows(
            source.limit(BATCH_ROWS),
            transform,
            epochs=1,
            shuffle_seed=None,
            bad_rows=self.make_set_aside(),
            vocab_size=self.vocab_size,
        )
        try:
            return list(rows)
        except NoRowsError:
            return []

    def count(self, transform: CountingTransform) -> int:
        """Rows that a run of `num_train_epochs` trains on; reads the data once, or as often as its epochs differ."""
        source, epochs = self.required, self._config.num_train_epochs
        whole = 0 if source.is_endless or transform.mixes_rows else math.floor(epochs)
        quiet = self.make_set_aside(quarantines=False)
        of_epoch = 0
        if whole:
            once = EpochRows(source, transform, epochs=1, shuffle_seed=None, bad_rows=quiet)
            of_epoch = sum(1 for _ in once)
        if whole == epochs:
            return whole * of_epoch
        begin = {"epoch": whole, "given": 0, "rows": None}
        rest = EpochRows(source, transform, epochs=epochs, shuffle_seed=self.shuffle_seed, bad_rows=quiet, state=begin)
        return whole * of_epoch + sum(1 for _ in rest)

    def make_set_aside(self, *, quarantines: bool = True) -> SetAside | None:
        """What takes bad rows out, counting anew; `None` where they raise.

        Args:
            quarantines: whether it may write them to the run's file of bad rows.
        """
        config = self._config
        if config.bad_rows == "raise":
            return None
        if not quarantines:
            return SetAside(BadRows(policy="skip", budget=config.bad_rows_budget))
        file = None
        if config.bad_rows == "quarantine" and config.save_directory is not None:
            file = str(Path(config.save_directory, "bad_rows.jsonl"))
        return SetAside(BadRows(policy=config.bad_rows, file=file, budget=config.bad_rows_budget))

    def _careful(self, source: ShardedDataSource) -> ShardedDataSource:
        return source if self.bad is None else source.with_care(Care(marks=True))


def held_out_sources(dataset: Any) -> dict[str, ShardedDataSource]:
    """Held-out sources by name; a single one has the name "".

    Raises:
        ConfigError: if a name is no text, or empty.
    """
    if dataset is None:
        return {}
    if not isinstance(dataset, Mapping):
        return {"": as_sharded_source(dataset, name="eval")}
    for name in dataset:
        if not isinstance(name, str) or not name:
            raise ConfigError("eval_dataset", name, "names of held-out sets, such as {'chat': …, 'code': …}")
    return {name: as_sharded_source(rows, name=f"eval set {name}") for name, rows in dataset.items()}
