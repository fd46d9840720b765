"""ShardedDataSource: a list of named shards, each an ordered list of rows, that can be read from any position.

    >>> from easydata_sources import MemoryShardedSource
    >>> source = MemoryShardedSource([{"n": 1}, {"n": 2}, {"n": 3}]).map(lambda row: {"n": row["n"] * 10})
    >>> stream = source.rows()
    >>> next(stream)
    {'n': 10}
    >>> list(source.rows(stream.state()))
    [{'n': 20}, {'n': 30}]

A source describes data and holds no position: positions belong to the streams it hands out, any number of
them at a time. Implementing one takes `shard_names` and `open_shard`; everything else has a default that is
correct, and each method says when a better one is worth writing. Sources must be picklable and must not
keep files open.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, final

from easydata_sources.bad_rows.bad_row import LARGEST_ROW_BYTES, Care
from easydata_sources.errors import DataError
from easydata_sources.identity import UNIDENTIFIED
from easydata_sources.streams import BatchStream, RowStream, beyond_the_end
from easydata_sources.types import Identity, Origin, Row, State

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from easydata_sources.bad_rows.policy import BadRows, Policy
    from easydata_sources.shuffling.access import RowAccess
    from easydata_sources.storage.files import DataFile


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardInfo:
    """What is known about a shard without reading its rows."""

    shard_id: int
    """Position among the source's shards."""
    shard_name: str
    """Its name in `shard_names`."""
    num_rows: int | None = None
    """Rows in it; None = not known without reading them."""
    byte_size: int | None = None
    """Size as stored; None = not known."""
    url: str | None = None
    """Where it lies; None = nowhere (memory)."""


class ShardedDataSource(ABC):
    """Rows in named shards, readable from any position."""

    @property
    @abstractmethod
    def shard_names(self) -> Sequence[str]:
        """Stable names of the shards, unique within the source, in reading order."""

    @property
    def is_endless(self) -> bool:
        """Whether the rows never end by themselves; `len()` is then the length of an epoch, if it is known."""
        return False

    @property
    def has_repeatable_order(self) -> bool:
        """Whether an equal source, built anew on another host or after a restart, has the rows in this order."""
        return True

    def at_epoch(self, epoch: int) -> ShardedDataSource:
        """Returns the source as it is read in an epoch: itself, unless it has an order of its own for each.

        Args:
            epoch: From 0, which is the order that the source has by itself.
        """
        return self

    @abstractmethod
    def open_shard(self, name: str) -> Iterator[Row]:
        """Returns a fresh iterator over one shard's rows."""

    def open_shard_at_row(self, name: str, row: int) -> Iterator[Row]:
        """Returns the shard's rows from `row` on; none if `row` is the shard's length. Override to seek."""
        return islice(self.open_shard(name), row, None)

    def num_shards(self) -> int:
        """Returns the number of shards."""
        return len(self.shard_names)

    def get_shard_info(self, name: str) -> ShardInfo | None:
        """Returns what is known about a shard without reading its rows; None = nothing."""
        return None

    def rows(self, state: State | None = None) -> RowStream:
        """Returns the rows from a position on; `None` = from the start.

        Args:
            state: A `.state()` of a row or batch stream of this source or an equal one.
        """
        return _ShardRowStream(self, state)

    @final
    def batches(self, rows: int = 1024, state: State | None = None) -> BatchStream:
        """Returns the same rows as Arrow record batches of at most `rows` rows.

        A batch has every column that a row of it has; a key that a row lacks is null there. Where sources of different
        columns meet it may also have those of rows before or behind it, null throughout.

        Raises:
            DataError: If `rows` is below 1.
        """
        if rows < 1:
            raise DataError(f"A batch needs at least one row; batches(rows={rows}) was asked for.")
        return BatchStream(self.rows(state), rows)

    def identity(self) -> Identity:
        """Returns what the rows depend on, as plain JSON-able values: of equal ones, the rows are equal.

        Override where the content can be known; see `easydata_sources.identity`. This default knows shards by name.
        """
        infos = [(name, self.get_shard_info(name)) for name in self.shard_names]
        kind = type(self).__qualname__
        return {
            "source": kind,
            "shards": [[name, info and info.num_rows, info and info.byte_size] for name, info in infos],
            UNIDENTIFIED: f"the content of a {kind}, which has no identity() of its own",
        }

    def data_files(self) -> Sequence[DataFile]:
        """Returns the files that the rows are read from; none where they come from elsewhere, or it is not known."""
        return ()

    def token_lengths(self) -> NDArray[np.integer] | None:
        """Returns the tokens of every row in order, if they are known without reading rows; None = they are not."""
        return None

    def access(self) -> RowAccess | None:
        """Returns random access to the rows, by blocks; None = the source can only be read in order."""
        return None

    def with_care(self, care: Care) -> ShardedDataSource:
        """Returns the same source reading with care: `on_bad_rows` asks for it.

        This default does what can be done from outside: the rest of a shard that fails becomes one bad row. Sources
        that are made of others hand it on to them.
        """
        from easydata_sources.combined.guarded import GuardedSource

        return GuardedSource(self) if care.marks else self

    def __len__(self) -> int:
        """Returns the number of rows, without decoding them.

        Raises:
            TypeError: If only reading the data would tell.
        """
        total = 0
        for name in self.shard_names:
            info = self.get_shard_info(name)
            if info is None or info.num_rows is None:
                raise TypeError(
                    f"The number of rows of {type(self).__name__} is unknown until it has been read "
                    f"(shard {name!r}). Give a number of steps (max_training_steps=…) instead of epochs, "
                    "or bound the source with .limit(n)."
                )
            total += info.num_rows
        return total

    def __bool__(self) -> bool:
        # Without this, `if source:` would ask for the length, which may be unknown or cost a scan.
        return True

    def __iter__(self) -> RowStream:
        return self.rows()

    # Chaining. Each returns a new source and reads nothing.

    def transform(self, transform: Any) -> ShardedDataSource:
        """Applies a `Transform`, `ExpandTransform`, `BatchTransform` or callable to every row; `None` drops a row."""
        from easydata_sources.combined.transformed import TransformedShardedSource

        return TransformedShardedSource(self, transform)

    def map(self, function: Callable[[Row], Row]) -> ShardedDataSource:
        """Replaces every row by `function(row)`, exactly one row each."""
        from easydata_sources.transforms.transform import MapTransform

        return self.transform(MapTransform(function))

    def filter(self, predicate: Callable[[Row], bool]) -> ShardedDataSource:
        """Keeps the rows for which `predicate(row)` is true."""
        from easydata_sources.transforms.transform import FilterTransform

        return self.transform(FilterTransform(predicate))

    def select_fields(self, fields: Sequence[str]) -> ShardedDataSource:
        """Keeps only these fields of every row (those it has)."""
        from easydata_sources.transforms.fields import SelectFields

        return self.transform(SelectFields(fields))

    def drop_fields(self, fields: Sequence[str]) -> ShardedDataSource:
        """Removes these fields from every row."""
        from easydata_sources.transforms.fields import DropFields

        return self.transform(DropFields(fields))

    def rename_fields(self, mapping: Mapping[str, str]) -> ShardedDataSource:
        """Renames fields, `{old: new}`."""
        from easydata_sources.transforms.fields import RenameFields

        return self.transform(RenameFields(mapping))

    def on_bad_rows(
        self,
        policy: Policy | BadRows,
        *,
        file: str | None = None,
        budget: float = 0.01,
        largest_row_bytes: int = LARGEST_ROW_BYTES,
    ) -> ShardedDataSource:
        """Says what happens to rows that cannot be read, or that a transform so far cannot handle.

        Which rows are left is the same for any number of hosts and after resuming. Their number is not known before
        they were read, as after a filter.

        Args:
            policy: `raise`, `skip` or `quarantine`; or all of it as one `BadRows`, and nothing else.
            file: JSON-lines file for the rows in quarantine.
            budget: Bad rows above which an error is raised: a share (float) or a number (int).
            largest_row_bytes: Rows that take more bytes as stored are bad.
        """
        from easydata_sources.bad_rows.policy import BadRows, SetAside

        if not isinstance(policy, BadRows):
            policy = BadRows(policy=policy, file=file, budget=budget, largest_row_bytes=largest_row_bytes)
        marks = policy.policy != "raise"
        source = self.with_care(Care(largest_row_bytes=policy.largest_row_bytes, marks=marks))
        return source.transform(SetAside(policy)) if marks else source

    def limit(self, rows: int) -> ShardedDataSource:
        """Keeps the first `rows` rows."""
        from easydata_sources.combined.limit import LimitedShardedSource

        return LimitedShardedSource(self, rows)

    def shuffle(self, seed: int, epoch: int = 0, *, window_rows: int = 16_384) -> ShardedDataSource:
        """Reorders the rows by a permutation that is a pure function of (seed, epoch).

        Args:
            seed: Any integer.
            epoch: Another order of the same rows for each epoch.
            window_rows: Rows held in memory at a time by sources that cannot fetch single rows cheaply.
        """
        from easydata_sources.shuffling.shuffle import ShuffledShardedSource

        return ShuffledShardedSource(self, seed=seed, epoch=epoch, window_rows=window_rows)

    def shard(self, index: int, count: int, *, window: int = 256) -> ShardedDataSource:
        """Returns host `index`'s share of `count`: every `count`-th window of `window` rows.

        The hosts' windows, dealt round in host order, are the global order, however many hosts and files
        there are. Where rows are known to be so few that some hosts would have none, windows are smaller.
        """
        from easydata_sources.combined.hosts import HostShardedSource

        return HostShardedSource(self, index=index, count=count, window=window, shrinks=True)


class SingleShardSource(ShardedDataSource):
    """A source that is defined by `rows(state)`, seen as one shard: base of those whose order crosses shards."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def shard_names(self) -> Sequence[str]:
        return (self._name,)

    def get_shard_info(self, name: str) -> ShardInfo | None:
        return ShardInfo(shard_id=shard_index(self, name), shard_name=name)

    def open_shard(self, name: str) -> Iterator[Row]:
        return self.open_shard_at_row(name, 0)

    def open_shard_at_row(self, name: str, row: int) -> Iterator[Row]:
        shard_index(self, name)
        stream = self.rows()
        stream.skip(row)
        return stream


def shard_index(source: ShardedDataSource, name: str) -> int:
    """Returns the index of a shard name, or raises an error that lists the names."""
    try:
        return source.shard_names.index(name)
    except ValueError:
        known = ", ".join(map(repr, source.shard_names[:5]))
        raise DataError(
            f"There is no shard {name!r}; this {type(source).__name__} has {source.num_shards()}: {known}"
            f"{', …' if source.num_shards() > 5 else ''}."
        ) from None


@final
class _ShardRowStream(RowStream):
    """Rows of a source that only knows `open_shard_at_row`; position = (shard, row)."""

    def __init__(self, source: ShardedDataSource, state: State | None) -> None:
        self._source = source
        self._names = source.shard_names
        self._shard = state["shard"] if state else 0
        self._row = state["row"] if state else 0
        self._rows: Iterator[Row] | None = None
        self._resumed = self._row > 0
        if self._shard > len(self._names):
            raise beyond_the_end(f"it is in shard {self._shard}, and there are {len(self._names)}")

    def __next__(self) -> Row:
        while self._shard < len(self._names):
            if self._rows is None:
                self._rows = self._source.open_shard_at_row(self._names[self._shard], self._row)
            try:
                row = next(self._rows, None)
            except Exception:
                self._rows = None  # a generator that has raised looks exhausted: asked again, it must fail again
                raise
            if row is not None:
                self._row += 1
                self._resumed = False
                return row
            if self._resumed:
                self._check_within(self._names[self._shard])
                self._resumed = False
            self._shard, self._row, self._rows = self._shard + 1, 0, None
        raise StopIteration

    def state(self) -> State:
        return {"shard": self._shard, "row": self._row}

    def _check_within(self, name: str) -> None:
        """Raises if a shard has fewer rows than the position says were given of it."""
        info = self._source.get_shard_info(name)
        known = None if info is None else info.num_rows
        rows = sum(1 for _ in islice(self._source.open_shard(name), self._row)) if known is None else known
        if rows < self._row:
            raise beyond_the_end(f"{self._row} rows were given of {name}, which has {rows}")

    def origin(self) -> Origin:
        return self._names[min(self._shard, len(self._names) - 1)], self._row - 1

    def origin_of_run(self, rows: int) -> Origin:
        shard, row = self.origin()
        return shard, None if row is None or row + 1 < rows else row + 1 - rows
