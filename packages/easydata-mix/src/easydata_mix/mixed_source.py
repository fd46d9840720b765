"""MixedShardedSource: several sources as one, by exact shares.

    >>> from easydata_mix import MixedShardedSource
    >>> mixed = MixedShardedSource(
    ...     {"a": [{"n": 1}, {"n": 2}], "b": [{"n": 10}, {"n": 20}]}, {"a": 2, "b": 1}, block_size=1
    ... )
    >>> [row["n"] for row in mixed.limit(6).rows()]
    [1, 10, 2, 1, 20, 2]

The rows are read in the order of a plan (`planner.py`) that knows nothing of data; this class joins the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from easydata_sources import BatchStream, RowStream, ShardedDataSource, State
from easydata_sources.bad_rows.bad_row import Care
from easydata_sources.combined.single_shard import SingleShardSource
from easydata_sources.identity import Identity
from easydata_sources.source import check_batch_size
from easydata_sources.streams import ChunkBatchStream, ChunkReader

from easydata_mix.errors import MixtureError
from easydata_mix.plan.block_order import Order
from easydata_mix.plan.clock import Clock
from easydata_mix.plan.planner import Planner
from easydata_mix.plan.recipe import WeightBy, make_recipe
from easydata_mix.plan.schedule import WeightScheduler
from easydata_mix.plan.share_curve import HORIZON
from easydata_mix.plan.simulation import Simulation, TokenLengths, row_lengths, simulate
from easydata_mix.plan.walk import PlanPosition, Stop, orders, token_orders, walk
from easydata_mix.plan.weight_edits import Journal, WeightEdit
from easydata_mix.reading.mixer import MixturePosition, Reading
from easydata_mix.reading.passes import Passes, Shuffle, named_sources
from easydata_mix.reading.saved_state import check_mixture, position_from_dict, position_to_dict
from easydata_mix.reading.source_reader import SourcePosition
from easydata_mix.reading.streams import MixedReader, MixedRowStream

if TYPE_CHECKING:
    import numpy as np
    from easydata_sources.storage.files import DataFile
    from numpy.typing import NDArray


class MixedShardedSource(SingleShardSource):
    """A weighted, possibly scheduled mixture of sources; one shard, read by position.

    At every block boundary each source has given within one row of the running integral of its share. The integral
    starts again where a source runs out (`all_exhausted`) or the weights are edited.

    Under `stop="restart"` the rows never end: bound them with `.limit(n)` or a number of training steps. `len()` is
    then the length of an epoch, the sum of the sources' lengths.
    """

    def __init__(
        self,
        sources: Mapping[str, Any] | Sequence[Any],
        weights: Mapping[str, float] | Sequence[float] | None = None,
        block_size: int = 1000,
        seed: int = 42,
        stop: Stop = "restart",
        *,
        weight_scheduler: WeightScheduler | None = None,
        stop_strategy: Stop | None = None,
        provenance: bool = False,
        weight_by: WeightBy = "row",
        length_field: str | None = None,
    ) -> None:
        """Check the mixture; no row is read.

        Args:
            sources: The sources by name, or a list of them (named `source_0`, …); each may be whatever
                `as_sharded_source` takes.
            weights: Share of each source, by name or in order; any non-negative numbers, their ratio counts.
                `None` = equal shares.
            block_size: Rows after which shares are exact; inside a block the order is shuffled, and what a schedule
                changes is averaged over it, so give fast schedules a block of a few steps. 1 = the even order, in which
                the sources alternate as regularly as their shares allow.
            seed: Seed of the order inside blocks, 0 to 2**64 - 1.
            stop: What happens when a source runs out: `restart` it; end the mixture (`first_exhausted`); or go on
                without it until all are read (`all_exhausted`).
            weight_scheduler: Shares that change over the run, instead of `weights`.
            stop_strategy: Another name for `stop`.
            provenance: Add the name of its source to every row, as `__source__`.
            weight_by: What the weights are shares of: rows, or `token`s, exact at block boundaries within the longest
                row. The lengths are those of `input_ids`.
            length_field: Field that holds the tokens of a row, instead.

        Raises:
            MixtureError: If the options do not describe a mixture, or a source is known to be empty.
            TypeError: If something among `sources` is not a data set.
        """
        if stop_strategy is not None and stop not in ("restart", stop_strategy):
            raise MixtureError(f"`stop` is {stop!r} and `stop_strategy` {stop_strategy!r}; give one of them.")
        super().__init__("mixed_shard_0")
        self._passes = Passes(sources=named_sources(sources))
        self._names = list(self._passes.names)
        self._recipe = make_recipe(
            self._names,
            weights,
            weight_scheduler,
            block_size=block_size,
            seed=seed,
            stop=stop_strategy or stop,
            weight_by=weight_by,
            length_field=length_field,
        )
        self._provenance = provenance
        self._clock = Clock()
        self._journal = Journal(self._names)

    @property
    def names(self) -> list[str]:
        """Names of the sources, in order."""
        return list(self._names)

    @property
    def stop(self) -> Stop:
        """The stop policy; under `restart` the rows never end."""
        return self._recipe.stop

    @property
    def counts_steps(self) -> bool:
        """Whether its shares change by optimizer steps, so that it must be told how many rows one has."""
        return self._recipe.scheduled and self._recipe.unit == "step"

    @property
    def is_endless(self) -> bool:
        """Whether the rows never end: under `restart`, or because what they end with has no end."""
        if self.stop == "restart":
            return True
        endless = [self._passes.source(index).is_endless for index in self._recipe.drawn]
        return any(endless) if self.stop == "all_exhausted" else all(endless)

    @property
    def has_repeatable_order(self) -> bool:
        return all(source.has_repeatable_order for source in self._passes.sources.values())

    def at_epoch(self, epoch: int) -> ShardedDataSource:
        """Return the mixture of the sources as they are read in an epoch; further passes are epochs of their own."""
        if all(source.at_epoch(epoch) is source for source in self._passes.sources.values()):
            return self
        return self._over(replace(self._passes, epoch=epoch))

    @property
    def journal(self) -> list[dict[str, Any]]:
        """The weight edits so far, as `{"from_row": …, "weights": …}` in order."""
        return self._journal.to_list()

    def rows(self, state: State | None = None) -> RowStream:
        """Return the rows from a position on; without end under `restart`."""
        position = self._restore(state)
        return MixedRowStream(self._reading(), position)

    def batches(self, rows: int = 1024, state: State | None = None) -> BatchStream:
        """Return the same rows as Arrow record batches.

        A batch has every column that a row of it has, so batches may differ in columns; where a row's source lacks one
        the value is null, as Arrow has no other word for it. `rows()` gives every row with its own keys only.
        """
        position = self._restore(state)
        return ChunkBatchStream(self.reader(), self._save(position), check_batch_size(rows))

    def reader(self) -> ChunkReader:
        """Return what reads the runs of rows, as columns where the sources have columns."""
        return MixedReader(self._reading(), self._load)

    def __len__(self) -> int:
        """Return the rows of an epoch: of an endless mixture the sources' lengths together, else exactly what is given.

        Sources that never have a weight do not count.

        Raises:
            TypeError: If the length of a source is unknown.
            MixtureError: If a schedule decides the length and its clock is not bound.
        """
        return self._epoch_rows(self._clock_start())

    def shuffle(self, seed: int, epoch: int = 0, *, window_rows: int = 16_384) -> MixedShardedSource:
        """Return the mixture of the shuffled sources.

        Which source a row comes from stays as planned; the rows of each source come in another order in every epoch
        and in every pass over it. A schedule's clock goes on from epoch to epoch.
        """
        return self._over(replace(self._passes, shuffle=Shuffle(seed=seed, window_rows=window_rows), epoch=epoch))

    def with_care(self, care: Care) -> MixedShardedSource:
        """Return the mixture of careful sources: a bad row keeps its place, and counts as one of its source's."""
        return self._over(self._passes.with_care(care))

    def data_files(self) -> Sequence[DataFile]:
        return [file for source in self._passes.sources.values() for file in source.data_files()]

    def identity(self) -> Identity:
        """Return what the rows depend on: the sources' identities, the recipe, and the edits of the weights."""
        sources = {name: source.identity() for name, source in self._passes.sources.items()}
        order = self._passes.shuffle
        shuffle = order and {"seed": order.seed, "epoch": self._passes.epoch, "window_rows": order.window_rows}
        return {"mixture of": sources, **self._recipe.identity(), "shuffle": shuffle, "edits": self.journal}

    def bind(self, *, rows_per_step: int | None = None, tokens_per_row: float | None = None) -> None:
        """Say how a schedule's clock runs; trainers call this once, before reading. It is part of the state.

        Args:
            rows_per_step: Rows of one optimizer step, for schedules with `unit="step"`.
            tokens_per_row: Mean tokens of a row, for schedules with `unit="token"`.

        Raises:
            MixtureError: If a number is not positive, or another one was bound before.
        """
        self._clock = self._clock.bound(rows_per_step=rows_per_step, tokens_per_row=tokens_per_row)

    def edit_weights(self, weights: Mapping[str, float], *, from_row: int | None = None) -> WeightEdit:
        """Change the shares from a row on; recorded in the journal, and through it in every state saved later.

        The new weights hold until the next edit and replace a schedule. On several hosts make the same edit with the
        same `from_row` on each.

        Args:
            weights: One weight per source.
            from_row: Index of the first row drawn by them, counted over all epochs; not before the
                rows already planned. `None` = the first row not planned yet (a block, or 1,024 rows, further on).

        Returns:
            The edit, with the row it takes effect at.

        Raises:
            MixtureError: If the weights do not fit the sources, or the order of that row is settled already.
        """
        row = self._journal.planned_rows if from_row is None else from_row
        return self._journal.add(row, weights)

    def decisions(self, rows: int) -> Iterator[Order]:
        """Yield which source each of the first `rows` rows comes from, as arrays of indices into `names`.

        Nothing is read; under `first_exhausted` and `all_exhausted` the sources' lengths must be known, and for shares
        of tokens those of their rows (`token_lengths()` of each source).
        """
        self._recipe.require_clock(self._clock)
        if self._recipe.weight_by == "token":
            return token_orders(self._planner(), rows, lengths=self._token_lengths(None), stop=self._recipe.stop)
        lengths: list[int | None] = [None] * len(self._names)
        if self._recipe.stop != "restart":
            lengths = [self._passes.known_rows(index) for index in range(len(self._names))]
        return orders(self._planner(), rows, lengths=lengths, stop=self._recipe.stop)

    def simulate(
        self,
        steps: int,
        *,
        rows_per_step: int | None = None,
        lengths: Mapping[str, TokenLengths] | None = None,
        points: int = 20,
    ) -> Simulation:
        """Return the rows, tokens and epochs of every source after some steps, without reading data.

        Args:
            steps: Optimizer steps from the start of the mixture.
            rows_per_step: Rows in a step. `None` = the number bound, or 1.
            lengths: Tokens of the rows of each source: their mean, or one number per row. `None` = count no tokens; or
                for shares of tokens, what `token_lengths()` of each source says.
            points: Moments in the result's timeline, for its plot.
        """
        clock = self._clock.bound(rows_per_step=rows_per_step)
        by_tokens = self._token_lengths(lengths) if self._recipe.weight_by == "token" else None
        if by_tokens is not None:
            lengths = dict(zip(self._names, by_tokens, strict=True))
        return simulate(
            self._planner(clock),
            names=self._names,
            epoch_rows=self._passes.epoch_rows,
            row_counts=self._passes.rows,
            stop=self._recipe.stop,
            steps=steps,
            rows_per_step=clock.rows_per_step or 1,
            token_lengths=lengths,
            by_tokens=by_tokens,
            points=points,
        )

    def _reading(self) -> Reading:
        self._recipe.require_clock(self._clock)
        return Reading(
            planner=self._planner(),
            stop=self._recipe.stop,
            provenance=self._provenance,
            weight_by=self._recipe.weight_by,
            length_field=self._recipe.length_field,
            passes=self._passes,
            save=self._save,
        )

    def _over(self, passes: Passes) -> MixedShardedSource:
        """Return the same mixture of other passes; edits of the one are edits of the other."""
        mixture = copy(self)
        mixture._passes = passes
        return mixture

    def _planner(self, clock: Clock | None = None) -> Planner:
        return self._planner_from(self._clock_start(clock), clock)

    def _planner_from(self, clock_start: int, clock: Clock | None = None) -> Planner:
        return Planner(
            len(self._names),
            self._recipe.curves(clock or self._clock),
            journal=self._journal,
            block_size=self._recipe.block_size,
            seed=self._recipe.seed,
            clock_start=clock_start,
        )

    def _clock_start(self, clock: Clock | None = None) -> int:
        """Return the rows of the epochs before this one; schedules and edits count them too."""
        rows = 0
        # Without lengths the rows of an epoch are unknown; only a schedule cannot do without them.
        if self._passes.shuffle and (self._recipe.scheduled or None not in self._passes.epoch_rows):
            for _ in range(self._passes.before):
                rows += self._epoch_rows(rows, clock)
        return rows

    def _epoch_rows(self, clock_start: int, clock: Clock | None = None) -> int:
        known = sum(self._passes.known_epoch_rows(index) for index in self._recipe.drawn)
        if self.is_endless or (self._recipe.stop == "all_exhausted" and not self.journal):
            return known
        if self._recipe.weight_by == "token":
            raise TypeError(
                "How many rows a mixture by tokens gives until a source runs out is known only by their lengths. "
                "Give a number of steps (max_training_steps=…) instead of epochs."
            )
        planner = self._planner_from(clock_start, clock)
        start = PlanPosition(begin=planner.start(), offset=0, drawn=(0,) * len(self._names))
        return walk(planner, start, HORIZON, lengths=self._passes.rows, stop=self._recipe.stop).row

    def _token_lengths(self, lengths: Mapping[str, TokenLengths] | None) -> list[NDArray[np.integer]]:
        """Return the tokens of every row of each source."""
        known = []
        for index, name in enumerate(self._names):
            told = self._passes.source(index).token_lengths() if lengths is None else row_lengths(lengths, name)
            if told is None:
                raise MixtureError(
                    f"The order of a mixture by tokens follows from the lengths of its rows, and those of {name!r} are "
                    "not known without reading. Mix sets that tokenize_and_save wrote, or simulate with lengths={…}."
                )
            known.append(told if told.ndim else told.repeat(self._passes.known_epoch_rows(index)))
        return known

    def _identity(self) -> dict[str, Any]:
        order = self._passes.shuffle
        shuffle = order and [order.seed, self._passes.epoch, order.window_rows]
        return {**self._recipe.identity(), "shuffle": shuffle}

    def _save(self, position: MixturePosition) -> State:
        return {
            "mixture": self._identity(),
            **position_to_dict(position, self._names),
            "journal": self.journal,
            **self._clock.to_dict(),
        }

    def _load(self, state: State) -> MixturePosition:
        return position_from_dict(state, self._names)

    def _restore(self, state: State | None) -> MixturePosition:
        if state is None:
            return MixturePosition(
                begin=self._planner().start(), offset=0, positions=(SourcePosition(),) * len(self._names)
            )
        position = self._load(state)
        check_mixture(state["mixture"], self._identity())
        self._clock = self._clock.restored(state)
        settled = position.begin.row + (self._recipe.block_size if position.offset else 0)
        self._journal.replay(state["journal"], self._clock_start() + settled)
        return position
