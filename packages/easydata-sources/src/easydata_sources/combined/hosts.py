"""HostShardedSource: one host's share of a source, dealt out by windows of rows.

A round is one window for each host. At the end of a round every host is at the same position of the source,
and its position says so without naming the host; so a run may go on with another number of hosts from
there. It works with fewer files than hosts, because windows count rows, not files.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, final

from easydata_sources.combined.guarded import GuardedSource
from easydata_sources.combined.limit import LimitedShardedSource
from easydata_sources.combined.wrapping import WrappingSource
from easydata_sources.errors import DataError
from easydata_sources.source import ShardedDataSource, SingleShardSource
from easydata_sources.streams import RowStream, beyond_the_end
from easydata_sources.types import Identity, Origin, Row, Rows, State

if TYPE_CHECKING:
    pass


_MANY_ROWS = 1 << 40
_FEW_SHARDS = 16
_FEW_BYTES = 1 << 20  # rows of files that are not larger are counted in no time


@final
class HostShardedSource(WrappingSource, SingleShardSource):
    """Windows `index`, `index + count`, `index + 2 count`, … of a source.

    The position is `{"source": position at the start of the round, "consumed": rows of the own window consumed,
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

    def identity(self) -> Identity:
        share = {"index": self.index, "count": self.count, "window": self.window}
        return {"rows of": self.source.identity(), "share": share}

    def rows(self, state: State | None = None) -> RowStream:
        """Starts reading this host's rows.

        Raises:
            DataError: If `state` lies within a round of another number of hosts.
        """
        self._check(state)
        return _HostStream(self, state)

    def _check(self, state: State | None) -> None:
        if state and state["consumed"] and state["hosts"] != self.count:
            raise DataError(
                f"The position {state} lies within a round of {state['hosts']} hosts and cannot be continued by "
                f"{self.count}.\n  mend: save positions when every host has finished its window "
                f"(every {self.window} rows), or resume with {state['hosts']} hosts"
            )

    def over(self, source: ShardedDataSource) -> HostShardedSource:
        return HostShardedSource(source, index=self.index, count=self.count, window=self._most, shrinks=self._shrinks)

    def __len__(self) -> int:
        rounds, rest = divmod(len(self.source), self.window * self.count)
        return rounds * self.window + min(self.window, max(0, rest - self.index * self.window))


def check_repeatable(source: ShardedDataSource, sharers: str) -> None:
    """Raises if those who share a source would each see another order.

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
    """Returns the rows of a source before transforms, where that is known at once and they are few; else None."""
    most = _MANY_ROWS
    # Of a guarded source nobody knows the rows: those behind a failure are one bad row.
    while isinstance(source, WrappingSource) and not isinstance(source, GuardedSource):
        most = min(most, source.max_rows) if isinstance(source, LimitedShardedSource) else most
        source = source.source
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


@final
class _HostStream(RowStream):
    """A stream of the source, kept at the next row of this host's windows.

    Args:
        owner: The share.
        state: Where to begin; None = at the start.
    """

    def __init__(self, owner: HostShardedSource, state: State | None) -> None:
        self._owner = owner
        self._round: State | None = state["source"] if state else None
        self._consumed: int = state["consumed"] if state else 0
        self._stream: RowStream | None = None
        self._at_own_row()

    def __next__(self) -> Row:
        row = next(self._at_own_row())
        self._consumed += 1
        return row

    def take(self, rows: int) -> Rows | None:
        stream = self._at_own_row()
        run = stream.take(min(rows, self._owner.window - self._consumed))
        self._consumed += 0 if run is None else len(run)
        return run

    def skip(self, rows: int) -> int:
        skipped = 0
        while skipped < rows:
            stream = self._at_own_row()
            wanted = min(rows - skipped, self._owner.window - self._consumed)
            found = stream.skip(wanted)
            self._consumed += found
            skipped += found
            if found < wanted:
                break
        return skipped

    def state(self) -> State:
        self._at_own_row()
        return {"source": self._round, "consumed": self._consumed, "hosts": self._owner.count}

    def origin(self) -> Origin:
        return super().origin() if self._stream is None else self._stream.origin()

    def origin_of_run(self, rows: int) -> Origin:
        return super().origin_of_run(rows) if self._stream is None else self._stream.origin_of_run(rows)

    def _at_own_row(self) -> RowStream:
        """Returns the stream at the next own row; where the own window is complete, that is one of the next round."""
        owner = self._owner
        try:
            stream = self._opened() if self._stream is None else self._stream
            if self._consumed == owner.window:
                # Over the windows of the hosts behind this one, and in the next round of those before it.
                stream.skip((owner.count - 1 - owner.index) * owner.window)
                self._round, self._consumed = stream.state(), 0
                stream.skip(owner.index * owner.window)
        except Exception:
            self._stream = None  # it may be anywhere between two windows: asked again, begin at the round's start
            raise
        self._stream = stream
        return stream

    def _opened(self) -> RowStream:
        stream = self._owner.source.rows(self._round)
        self._round = stream.state()
        stream.skip(self._owner.index * self._owner.window)
        found = stream.skip(self._consumed)
        if found < self._consumed:
            raise beyond_the_end(f"{self._consumed} rows of a window were given that has {found}")
        return stream
