"""HostShardedSource: one host's share of a source, dealt out by windows of rows.

A round is one window for each host. At the end of a round every host is at the same place of the source,
and its position says so without naming the host; so a run may go on with another number of hosts from
there. It works with fewer files than hosts, because windows count rows, not files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, final

from easydata_sources.bad_rows.bad_row import Care
from easydata_sources.combined.single_shard import SingleShardSource
from easydata_sources.errors import DataError
from easydata_sources.identity import Identity
from easydata_sources.rows import Row, Rows, batch_of
from easydata_sources.source import ShardedDataSource, check_batch_size
from easydata_sources.streams import BatchStream, ChunkBatchStream, Place, RowStream, State, beyond_the_end

if TYPE_CHECKING:
    import pyarrow as pa

    from easydata_sources.storage.files import DataFile


_MANY_ROWS = 1 << 40
_FEW_SHARDS = 16
_FEW_BYTES = 1 << 20  # rows of files that are not larger are counted in no time


@final
class HostShardedSource(SingleShardSource):
    """Windows `index`, `index + count`, `index + 2 count`, … of a source.

    The position is `{"source": position at the start of the round, "emitted": rows of the own window given,
    "hosts": count}`.

    Args:
        source: The source; must be the same on every host.
        index: This host, 0…count-1.
        count: How many hosts there are.
        window: Rows per window; the same on every host.
        shrinks: Whether windows are smaller where rows are known to be so few that some hosts would have none.
    """

    def __init__(
        self, source: ShardedDataSource, *, index: int, count: int, window: int = 256, shrinks: bool = False
    ) -> None:
        if not 0 <= index < count:
            raise DataError(f"There is no share {index} of {count}; shares count from 0 to {count - 1}.")
        if window < 1:
            raise DataError(f"A window needs at least one row; found window={window}.")
        if count > 1:
            check_repeatable(source, f"{count} hosts")
        super().__init__(f"share {index} of {count}")
        self.source = source
        self.index = index
        self.count = count
        self._most = window
        self._shrinks = shrinks

    @cached_property
    def window(self) -> int:
        """Rows per window."""
        rows = _most_rows(self.source) if self._shrinks else None
        if rows is None or rows > self._most * (self.count - 1):
            return self._most
        return max(1, -(-rows // self.count))

    def data_files(self) -> Sequence[DataFile]:
        return self.source.data_files()

    def identity(self) -> Identity:
        share = {"index": self.index, "count": self.count, "window": self.window}
        return {"rows of": self.source.identity(), "share": share}

    @property
    def is_endless(self) -> bool:
        return self.source.is_endless

    @property
    def has_repeatable_order(self) -> bool:
        return self.source.has_repeatable_order

    def at_epoch(self, epoch: int) -> ShardedDataSource:
        source = self.source.at_epoch(epoch)
        return self if source is self.source else self._over(source)

    def rows(self, state: State | None = None) -> RowStream:
        """Start reading this host's rows.

        Raises:
            DataError: If `state` lies within a round of another number of hosts.
        """
        self._check(state)
        return _HostRows(self, state)

    def batches(self, rows: int = 1024, state: State | None = None) -> BatchStream:
        """Start reading the same rows as record batches."""
        self._check(state)
        if self.source.reader() is None:
            return super().batches(rows, state)
        return _HostBatches(self, check_batch_size(rows), state)

    def _check(self, state: State | None) -> None:
        if state and state["emitted"] and state["hosts"] != self.count:
            raise DataError(
                f"The position {state} lies within a round of {state['hosts']} hosts and cannot be continued by "
                f"{self.count}.\n  mend: save positions when every host has finished its window "
                f"(every {self.window} rows), or resume with {state['hosts']} hosts"
            )

    def with_care(self, care: Care) -> ShardedDataSource:
        return self._over(self.source.with_care(care))

    def _over(self, source: ShardedDataSource) -> HostShardedSource:
        return HostShardedSource(source, index=self.index, count=self.count, window=self._most, shrinks=self._shrinks)

    def __len__(self) -> int:
        rounds, rest = divmod(len(self.source), self.window * self.count)
        return rounds * self.window + min(self.window, max(0, rest - self.index * self.window))


def check_repeatable(source: ShardedDataSource, sharers: str) -> None:
    """Raise if those who share a source would each see another order.

    Args:
        source: The source.
        sharers: Who they are, for the message.

    Raises:
        DataError: If built anew it has another order.
    """
    if not source.has_repeatable_order:
        raise DataError(
            f"A data set that was shuffled without a seed cannot be shared by {sharers}: each has another order of it, "
            "so rows would be read twice and others never.\n  mend: give the data set's .shuffle() a seed, or leave it "
            "out and use source.shuffle(seed)"
        )


def _most_rows(source: ShardedDataSource) -> int | None:
    """Return the rows of a source before transforms, where that is known at once and they are few; else None."""
    most = _MANY_ROWS
    while isinstance(below := getattr(source, "source", None), ShardedDataSource):
        most = min(most, getattr(source, "max_rows", most))
        source = below
    if source.num_shards() > _FEW_SHARDS:
        return None
    infos = [source.get_shard_info(name) for name in source.shard_names]
    if all(info is not None and info.num_rows is not None for info in infos):
        return min(most, sum(info.num_rows or 0 for info in infos if info is not None))
    if any(info is None or info.byte_size is None or info.byte_size > _FEW_BYTES for info in infos):
        return None
    try:
        return min(most, len(source))
    except TypeError:
        return None


class _Skips(Protocol):
    """What the deal needs of a stream of the source."""

    def skip(self, rows: int) -> int: ...

    def state(self) -> State: ...


StreamT = TypeVar("StreamT", bound=_Skips)


class _Deal(Generic[StreamT]):
    """A stream of the source, kept at the next row of this host's windows.

    Args:
        owner: The share.
        open_at: Begins a stream of the source at a position; None = at its start.
        state: Where to begin; None = at the start.
    """

    def __init__(
        self, owner: HostShardedSource, open_at: Callable[[State | None], StreamT], state: State | None
    ) -> None:
        self._owner = owner
        self._open_at = open_at
        self._round: State | None = state["source"] if state else None
        self._emitted: int = state["emitted"] if state else 0
        self._stream: StreamT | None = None
        self.stream()

    def stream(self) -> StreamT:
        """Return the stream at the next own row; where the own window is complete, that is one of the next round."""
        owner = self._owner
        try:
            stream = self._open() if self._stream is None else self._stream
            if self._emitted == owner.window:
                # Over the windows of the hosts behind this one, and in the next round of those before it.
                stream.skip((owner.count - 1 - owner.index) * owner.window)
                self._round, self._emitted = stream.state(), 0
                stream.skip(owner.index * owner.window)
        except Exception:
            self._stream = None  # it may be anywhere between two windows: asked again, begin at the round's start
            raise
        self._stream = stream
        return stream

    @property
    def left(self) -> int:
        """Rows of the present window that are still to be given."""
        return self._owner.window - self._emitted

    def count(self, rows: int) -> None:
        """Take note that rows of the window were given."""
        self._emitted += rows

    def state(self) -> State:
        self.stream()
        return {"source": self._round, "emitted": self._emitted, "hosts": self._owner.count}

    def _open(self) -> StreamT:
        stream = self._open_at(self._round)
        self._round = stream.state()
        stream.skip(self._owner.index * self._owner.window)
        found = stream.skip(self._emitted)
        if found < self._emitted:
            raise beyond_the_end(f"{self._emitted} rows of a window were given that has {found}")
        return stream


@final
class _HostRows(RowStream):
    def __init__(self, owner: HostShardedSource, state: State | None) -> None:
        self._deal = _Deal(owner, owner.source.rows, state)

    def __next__(self) -> Row:
        row = next(self._deal.stream())
        self._deal.count(1)
        return row

    def skip(self, rows: int) -> int:
        skipped = 0
        while skipped < rows:
            stream = self._deal.stream()
            wanted = min(rows - skipped, self._deal.left)
            found = stream.skip(wanted)
            self._deal.count(found)
            skipped += found
            if found < wanted:
                break
        return skipped

    def state(self) -> State:
        return self._deal.state()

    def origin(self) -> Place:
        return self._deal.stream().origin()


@final
class _HostBatches(BatchStream):
    """The same rows as record batches, which stay columns where the source has columns."""

    def __init__(self, owner: HostShardedSource, rows: int, state: State | None) -> None:
        reader = owner.source.reader()
        assert reader is not None
        start = owner.source.rows().state() if state is None else None

        def open_at(at: State | None) -> ChunkBatchStream:
            position = start if at is None else at
            assert position is not None
            return ChunkBatchStream(reader, position, owner.window)

        self._deal = _Deal(owner, open_at, state)
        self._size = rows

    def __next__(self) -> pa.RecordBatch:
        runs: list[Rows] = []
        where, missing = "", self._size
        while missing:
            try:
                taken, where = self._deal.stream().take(min(missing, self._deal.left))
            except Exception:
                if not runs:
                    raise
                break  # asked again, the stream fails again: the rows read before are given first
            if not taken:
                break
            runs += taken
            count = sum(map(len, taken))
            self._deal.count(count)
            missing -= count
        if not runs:
            raise StopIteration
        return batch_of(runs, where=where)

    def state(self) -> State:
        return self._deal.state()
