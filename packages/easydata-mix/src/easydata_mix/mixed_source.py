"""MixedShardedSource: several sources as one, by exact shares.

    >>> from easydata_mix import MixedShardedSource
    >>> mixed = MixedShardedSource(
    ...     {"a": [{"n": 1}, {"n": 2}], "b": [{"n": 10}, {"n": 20}]}, {"a": 2, "b": 1}, block_size=1
    ... )
    >>> [row["n"] for row in mixed.limit(6).rows()]
    [1, 10, 2, 1, 20, 2]

Which source each row comes from is decided by a plan that knows nothing of data (`plan/`); `reading/` reads the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, final

from easydata_sources import RowStream, ShardedDataSource, State
from easydata_sources.bad_rows.bad_row import Care
from easydata_sources.source import SingleShardSource
from easydata_sources.types import Identity

from easydata_mix.errors import MixtureError
from easydata_mix.plan.recipe import make_recipe
from easydata_mix.plan.schedule import WeightScheduler
from easydata_mix.plan.simulation import Simulation, TokenLengths, check_simulation, simulate
from easydata_mix.plan.types import Order, Stop, WeightBy
from easydata_mix.plan.weight_edits import Journal, WeightEdit
from easydata_mix.reading.mixed_stream import MixedStream
from easydata_mix.reading.mixture import Mixture
from easydata_mix.reading.passes import Passes, Shuffle, named_sources

if TYPE_CHECKING:
    from easydata_sources.storage.files import DataFile


@final
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
        """Checks the mixture; no row is read.

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
        passes = Passes(sources=named_sources(sources))
        recipe = make_recipe(
            passes.names,
            weights,
            weight_scheduler,
            block_size=block_size,
            seed=seed,
            stop=stop_strategy or stop,
            weight_by=weight_by,
            length_field=length_field,
        )
        self._mixture = Mixture(recipe=recipe, passes=passes, journal=Journal(passes.names), provenance=provenance)

    @property
    def names(self) -> list[str]:
        """Names of the sources, in order."""
        return list(self._mixture.names)

    @property
    def stop(self) -> Stop:
        """The stop policy; under `restart` the rows never end."""
        return self._mixture.recipe.stop

    @property
    def counts_steps(self) -> bool:
        """Whether its shares change by optimizer steps, so that it must be told how many rows one has."""
        return self._mixture.recipe.scheduled and self._mixture.recipe.unit == "step"

    @property
    def is_endless(self) -> bool:
        """Whether the rows never end: under `restart`, or because what they end with has no end."""
        return self._mixture.is_endless

    @property
    def has_repeatable_order(self) -> bool:
        return all(source.has_repeatable_order for source in self._mixture.passes.sources.values())

    def at_epoch(self, epoch: int) -> ShardedDataSource:
        """Returns the mixture of the sources as they are read in an epoch; further passes are epochs of their own."""
        if all(source.at_epoch(epoch) is source for source in self._mixture.passes.sources.values()):
            return self
        return self._over(replace(self._mixture.passes, epoch=epoch))

    @property
    def journal(self) -> list[dict[str, Any]]:
        """The weight edits so far, as `{"from_row": …, "weights": …}` in order."""
        return self._mixture.journal.to_list()

    def rows(self, state: State | None = None) -> RowStream:
        """Returns the rows from a position on; without end under `restart`.

        Every row has its own keys only. Batches have every column that a row of them has, so they may differ in
        columns; where a row's source lacks one the value is null, as Arrow has no other word for it.
        """
        if state is None:
            return MixedStream(self._mixture, None)
        self._mixture = self._mixture.restored(state)
        return MixedStream(self._mixture, self._mixture.load(state))

    def __len__(self) -> int:
        """Returns the rows of an epoch: of an endless mixture the sources' lengths together, else what is given.

        Sources that never have a weight do not count.

        Raises:
            TypeError: If the length of a source is unknown.
            MixtureError: If a schedule decides the length and its clock is not bound.
        """
        return self._mixture.epoch_rows()

    def shuffle(self, seed: int, epoch: int = 0, *, window_rows: int = 16_384) -> MixedShardedSource:
        """Returns the mixture of the shuffled sources.

        Which source a row comes from stays as planned; the rows of each source come in another order in every epoch
        and in every pass over it. A schedule's clock goes on from epoch to epoch.
        """
        return self._over(
            replace(self._mixture.passes, shuffle=Shuffle(seed=seed, window_rows=window_rows), epoch=epoch)
        )

    def with_care(self, care: Care) -> MixedShardedSource:
        """Returns the mixture of careful sources: a bad row keeps its place, and counts as one of its source's."""
        return self._over(self._mixture.passes.with_care(care))

    def data_files(self) -> Sequence[DataFile]:
        return [file for source in self._mixture.passes.sources.values() for file in source.data_files()]

    def identity(self) -> Identity:
        """Returns what the rows depend on: the sources' identities, the recipe, and the edits of the weights."""
        return self._mixture.identity()

    def bind(self, *, rows_per_step: int | None = None, tokens_per_row: float | None = None) -> None:
        """Says how a schedule's clock runs; trainers call this once, before reading. It is part of the state.

        Args:
            rows_per_step: Rows of one optimizer step, for schedules with `unit="step"`.
            tokens_per_row: Mean tokens of a row, for schedules with `unit="token"`.

        Raises:
            MixtureError: If a number is not positive, or another one was bound before.
        """
        clock = self._mixture.clock.bound(rows_per_step=rows_per_step, tokens_per_row=tokens_per_row)
        self._mixture = replace(self._mixture, clock=clock)

    def edit_weights(self, weights: Mapping[str, float], *, from_row: int | None = None) -> WeightEdit:
        """Changes the shares from a row on; recorded in the journal, and through it in every state saved later.

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
        journal = self._mixture.journal
        return journal.add(journal.planned_rows if from_row is None else from_row, weights)

    def decisions(self, rows: int) -> Iterator[Order]:
        """Yields which source each of the first `rows` rows comes from, as arrays of indices into `names`.

        Nothing is read; under `first_exhausted` and `all_exhausted` the sources' lengths must be known, and for shares
        of tokens those of their rows (`token_lengths()` of each source).
        """
        return self._mixture.known_walk().orders(rows)

    def simulate(
        self,
        steps: int,
        *,
        rows_per_step: int | None = None,
        lengths: Mapping[str, TokenLengths] | None = None,
        points: int = 20,
    ) -> Simulation:
        """Returns the rows, tokens and epochs of every source after some steps, without reading data.

        Args:
            steps: Optimizer steps from the start of the mixture.
            rows_per_step: Rows in a step. `None` = the number bound, or 1.
            lengths: Tokens of the rows of each source: their mean, or one number per row. `None` = count no tokens; or
                for shares of tokens, what `token_lengths()` of each source says.
            points: Moments in the result's timeline, for its plot.
        """
        mixture = replace(self._mixture, clock=self._mixture.clock.bound(rows_per_step=rows_per_step))
        rows_per_step = mixture.clock.rows_per_step or 1
        passes, stop = mixture.passes, mixture.recipe.stop
        check_simulation(mixture.names, passes.rows, stop=stop, steps=steps, rows_per_step=rows_per_step, points=points)
        if mixture.recipe.weight_by == "token":
            lengths = dict(zip(mixture.names, mixture.token_lengths(lengths), strict=True))
        return simulate(
            mixture.known_walk(lengths),
            names=mixture.names,
            epoch_rows=passes.epoch_rows,
            steps=steps,
            rows_per_step=rows_per_step,
            token_lengths=lengths,
            points=points,
        )

    def _over(self, passes: Passes) -> MixedShardedSource:
        """Returns the same mixture of other passes; edits of the one are edits of the other."""
        mixture = copy(self)
        mixture._mixture = replace(self._mixture, passes=passes)
        return mixture
