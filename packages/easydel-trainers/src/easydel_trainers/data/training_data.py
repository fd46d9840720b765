"""The rows of a training, and everything that can be asked of them without a model.

Opened, put into the order of training, bad ones taken out, arranged into batches, counted, explained.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from easydata_mix import MixedShardedSource
from easydata_sources import BadRows, CountingTransform, DataError, DataReport, ShardedDataSource, as_sharded_source
from easydata_sources.bad_rows.bad_row import Care
from easydata_sources.bad_rows.policy import SetAside
from easydata_sources.transforms.transform import BATCH_ROWS

from easydel_trainers.config import TrainerConfig
from easydel_trainers.data.batch_rules import BatchRules, RowUse
from easydel_trainers.data.epochs import EpochRows, NoRowsError, rows_in_all
from easydel_trainers.data.explained import Explains, explained
from easydel_trainers.data.layout import Arrays, Layout, Row, arrange_by_budget
from easydel_trainers.data.row_counts import count_trained, source_rows_per_step
from easydel_trainers.data.row_exchange import RowExchange
from easydel_trainers.data.tokenizer_of_rows import refuse_other_tokenizer
from easydel_trainers.errors import ConfigError

_LOG = logging.getLogger(__name__)

_SHOWN_TOKENS = 24  # of each row in messages
_NOT_TOKENS = ("segment_ids", "position_ids")  # of a packed row


@final
class TrainingData:
    """Training and held-out rows, and what the rules of an algorithm make of them.

    Args:
        rules: say what becomes of rows; an `Algorithm` is such rules.
        train_dataset: what `as_sharded_source` takes, or `None`.
        eval_dataset: the same, or a dict of several by name.
        parts: devices that share the rows of a micro-batch.

    Raises:
        ConfigError: if config and data cannot go together.
        DataError: if something is no data set, or there is no row.
    """

    def __init__(self, rules: BatchRules[Any], train_dataset: Any, eval_dataset: Any = None, *, parts: int = 1):
        self.rules, self._parts = rules, parts
        self._vocab_size: int | None = None
        self._positions: int | None = None
        self.bad = self.make_set_aside()
        """What takes the bad rows of the run out; its counts belong into the data report."""
        self.train = None if train_dataset is None else self._careful(as_sharded_source(train_dataset, name="train"))
        held_out = held_out_sources(eval_dataset)
        self.held_out = {name: self._careful(source) for name, source in held_out.items()}
        """Held-out sources by name; a single one has the name ""."""
        refuse_other_tokenizer(self.tokenizer, self._by_name(), allowed=self.config.allow_other_tokenizer)
        self.transform = self.training_transform()
        """That of the run: its report counts what was trained on."""
        if isinstance(self.train, MixedShardedSource):
            rows = source_rows_per_step(self.train, self.training_transform(), rules.rows_per_step)
            self.train.bind(rows_per_step=rows)
        if self.config.evaluation_steps is not None and not self.held_out:
            raise ConfigError("evaluation_steps", self.config.evaluation_steps, "None, as there is no eval_dataset")
        self._packs: int | None = None
        self._total_steps = self._count_steps(exactly=False)

    # What there is.

    @property
    def config(self) -> TrainerConfig:
        """Of the training."""
        return self.rules.config

    @property
    def tokenizer(self) -> Any:
        """Of the rows."""
        return self.rules.tokenizer

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
    def rows(self) -> int | None:
        """Rows of the training data; `None` where they cannot be counted."""
        return rows_in_all(self.required, 1)

    @property
    def total_steps(self) -> int | None:
        """Optimizer steps of a whole run; `None` where the rows cannot be counted."""
        return self._total_steps

    @property
    def report(self) -> DataReport:
        """Counts of rows read, cut, dropped or odd so far, by reason."""
        report = self.transform.report
        return report if self.bad is None else report.joined(self.bad.report)

    @property
    def shuffle_seed(self) -> int | None:
        """Seed of the order of training rows; `None` = the data's own order."""
        config = self.config
        seed = config.seed if config.shuffle_seed_train is None else config.shuffle_seed_train
        return seed if config.shuffle_train_dataset else None

    # What becomes of rows.

    def training_transform(self) -> CountingTransform:
        """Returns a new transform of training rows into those that steps count; may pack several into one."""
        use = RowUse(training=True, shuffle_seed=self.shuffle_seed, positions=self._positions)
        return self.rules.transform(use)

    def eval_transform(self) -> CountingTransform:
        """Returns the same for held-out rows."""
        return self.rules.transform(RowUse(training=False, positions=self._positions))

    def row_transform(self) -> CountingTransform:
        """Returns a new transform of rows, each by itself."""
        return self.rules.transform(RowUse(training=False, alone=True, positions=self._positions))

    def layout(self, *, rows: int, micro_batches: int = 1) -> Layout:
        """Returns how at most `rows` rows of each of `micro_batches` are arranged."""
        return self.rules.layout(rows=rows, micro_batches=micro_batches, parts=self._parts)

    def arrange(self, rows: Sequence[Row]) -> Arrays:
        """Returns one step's rows as arrays `[micro-batches, bins, length]`."""
        config = self.config
        if config.max_tokens_per_micro_batch is not None:
            return arrange_by_budget(
                rows,
                lambda most, micro_batches: self.layout(rows=most, micro_batches=micro_batches),
                rows_per_step=config.total_batch_size,
                budget=config.max_tokens_per_micro_batch,
            )
        micro_batches = config.gradient_accumulation_steps
        return self.layout(rows=config.total_batch_size // micro_batches, micro_batches=micro_batches).arrange(rows)

    def padded_batches(self) -> Iterator[dict[str, np.ndarray]]:
        """Yields whole batches of the training order as padded arrays, from the start, for people to look at.

        Each has `input_ids` and `attention_mask`, int32 `[rows, length]`, and what else its layout's `padded` gives.
        """
        rows = self.in_order(self.training_transform())
        while batch := list(itertools.islice(rows, self.rules.rows_per_step)):
            yield self.layout(rows=self.config.total_batch_size).padded(batch)

    def explain(self, row: Mapping[str, Any]) -> str:
        """Returns one raw row as training sees it: a table of its tokens with label, mask and segment. Counts
        nothing.
        """
        assert isinstance(self.transform, Explains)
        return explained(self.transform.explain(row))

    def describe_batch(self, position: Mapping[str, Any] | None) -> list[str]:
        """Returns the rows of the batch that begins at a data position: where each comes from, and how its text begins.

        Args:
            position: as a divergence or a loss spike names it, or a checkpoint's `data`; `None` = the beginning.
        """
        rows = self.in_order(self.training_transform(), state=None if position is None else dict(position))
        lines = []
        for row in itertools.islice(rows, self.rules.rows_per_step):
            file, number = rows.origin()
            documents = int(np.max(row.get("segment_ids", 1)))
            if documents > 1:
                file = f"{documents} rows packed, from the window of rows that begins at {file}"
            ids = np.concatenate([row[name] for name in row if name.endswith("_ids") and name not in _NOT_TOKENS])
            text = self.tokenizer.decode(ids[:_SHOWN_TOKENS])
            lines.append(f"{file} row {number}, {len(ids)} tokens: {text!r}")
        return lines

    # In which order.

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
        config = self.config
        return EpochRows(
            self.required,
            transform,
            epochs=None if config.max_training_steps else config.num_train_epochs,
            shuffle_seed=self.shuffle_seed,
            bad_rows=bad_rows or self.make_set_aside(),
            state=state,
            exchange=exchange,
            vocab_size=self._vocab_size,
        )

    def once(
        self,
        source: ShardedDataSource,
        transform: CountingTransform,
        *,
        shuffle_seed: int | None = None,
        exchange: RowExchange | None = None,
    ) -> EpochRows:
        """Returns one pass over a source, in its own order unless a seed is given."""
        return EpochRows(
            source,
            transform,
            epochs=1,
            shuffle_seed=shuffle_seed,
            bad_rows=self.make_set_aside(),
            exchange=exchange,
            vocab_size=self._vocab_size,
        )

    def count_up_to(self, data_state: dict[str, Any]) -> None:
        """Makes the report that of the rows before a data position, whatever was read ahead of it."""
        self.in_order(self.transform, bad_rows=self.bad).count_up_to(data_state)

    # Looking at the first rows, and counting all of them.

    def try_first_rows(self) -> list[Row]:
        """Reads and transforms a few rows of every set, so that a wrong layout is refused before anything is compiled.

        Returns:
            What those that are trained on became; none where all of them were dropped.

        Raises:
            DataError: if they cannot be read or recognised, or hold a token that the model does not know.
        """
        for source in self.held_out.values():
            self._try_first(source, self.eval_transform())
        return [] if self.train is None else self._try_first(self.train, self.training_transform())

    def fit(self, *, vocab_size: int, positions: int) -> None:
        """Holds all rows to a model.

        Args:
            vocab_size: tokens that it knows.
            positions: longest sequence that it was made for.

        Raises:
            DataError: if the first rows hold a token that it does not know.
        """
        self._vocab_size, self._positions = vocab_size, positions
        self.transform = self.training_transform()
        self.try_first_rows()

    def count_exactly(self) -> None:
        """Finds out how many steps there are, by reading the data once where rows are dropped or become several."""
        self._total_steps = self._count_steps(exactly=True)

    def make_set_aside(self, *, quarantines: bool = True) -> SetAside | None:
        """Returns what takes bad rows out, counting anew; `None` where they raise.

        Args:
            quarantines: whether it may write them to the run's file of bad rows.
        """
        config = self.config
        if config.bad_rows == "raise":
            return None
        if not quarantines:
            return SetAside(BadRows(policy="skip", budget=config.bad_rows_budget))
        file = None
        if config.bad_rows == "quarantine" and config.save_directory is not None:
            file = str(Path(config.save_directory, "bad_rows.jsonl"))
        return SetAside(BadRows(policy=config.bad_rows, file=file, budget=config.bad_rows_budget))

    def _try_first(self, source: ShardedDataSource, transform: CountingTransform) -> list[Row]:
        try:
            return list(self.once(source.limit(BATCH_ROWS), transform))
        except NoRowsError:
            return []

    def _count_steps(self, *, exactly: bool) -> int | None:
        config, rules = self.config, self.rules
        if config.max_training_steps is not None or self.train is None:
            return config.max_training_steps
        rows = self._count_rows(exactly=exactly)
        if rows == 0:
            raise DataError("The training data has no row. Look at the file or the filter that it comes from.")
        if rows is None:
            return None
        batches = math.ceil(rows / rules.rows_per_step)
        batches -= sum(number <= batches for number in config.skip_batches)
        return batches * rules.steps_per_batch

    def _count_rows(self, *, exactly: bool) -> int | None:
        """Returns rows that `num_train_epochs` epochs train on; `None` where they cannot be counted.

        Args:
            exactly: whether rows that are dropped, or become several, are found out by reading the data; else these are
                the rows of the data. Packs are always counted.
        """
        source, epochs = self.required, self.config.num_train_epochs
        rows, transform = rows_in_all(source, epochs), self.training_transform()
        if rows is None:
            return None
        if transform.mixes_rows:
            return self._count_packs(transform)
        if not exactly or not rows:
            return rows
        _LOG.info(
            "Reading the data once to count the rows that are trained on; max_training_steps makes that needless."
        )
        quiet = self.make_set_aside(quarantines=False)
        return count_trained(source, transform, epochs=epochs, shuffle_seed=self.shuffle_seed, bad_rows=quiet)

    def _count_packs(self, transform: CountingTransform) -> int:
        if self._packs is None:
            _LOG.info("Reading the data once to count its packs; max_training_steps makes that needless.")
            self._packs = sum(1 for _ in self.in_order(transform))
            transform.report.check(final=True)
        return self._packs

    def _by_name(self) -> dict[str, ShardedDataSource]:
        """Returns all sources, by what users gave them as."""
        train = {} if self.train is None else {"train_dataset": self.train}
        held_out = {f"eval_dataset {name!r}" if name else "eval_dataset": rows for name, rows in self.held_out.items()}
        return train | held_out

    def _careful(self, source: ShardedDataSource) -> ShardedDataSource:
        return source if self.bad is None else source.with_care(Care(marks=True))


def held_out_sources(dataset: Any) -> dict[str, ShardedDataSource]:
    """Returns held-out sources by name; a single one has the name "".

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
