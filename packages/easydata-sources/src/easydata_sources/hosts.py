"""HostShardedSource: one host's share of a source, dealt out by windows of rows.

A round is one window for each host. At the end of a round every host is at the same place of the source,
and its position says so without naming the host; so a run may go on with another number of hosts from
there. It works with fewer files than hosts, because windows count rows, not files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from easydata_sources.bad_row import Care
from easydata_sources.errors import DataError
from easydata_sources.identity import Identity
from easydata_sources.rows import Row, Rows, concat_rows, rows_as_batch
from easydata_sources.single_shard import SingleShardSource
from easydata_sources.source import ShardedDataSource, check_batch_size
from easydata_sources.streams import BatchStream, ChunkBatchStream, Place, RowStream, State

if TYPE_CHECKING:
    import pyarrow as pa


class HostShardedSource(SingleShardSource):
    """Windows `index`, `index + count`, `index + 2 count`, … of a source.

    The position is `{"source": position at the start of the round, "emitted": rows of the own window given,
    "hosts": count}`.

    Args:
        source: The source; must be the same on every host.
        index: This host, 0…count-1.
        count: How many hosts there are.
        window: Rows per window; the same on every host.
    """

    def __init__(self, source: ShardedDataSource, *, index: int, count: int, window: int = 256) -> None:
        if not 0 <= index < count:
            raise DataError(f"There is no share {index} of {count}; shares count from 0 to {count - 1}.")
        if window < 1:
            raise DataError(f"A window needs at least one row; found window={window}.")
        super().__init__(f"share {index} of {count}")
        self.source = source
        self.index = index
        self.count = count
        self.window = window

    def identity(self) -> Identity:
        share = {"index": self.index, "count": self.count, "window": self.window}
        return {"rows of": self.source.identity(), "share": share}

    @property
    def is_endless(self) -> bool:
        return self.source.is_endless

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
        source = self.source.with_care(care)
        return HostShardedSource(source, index=self.index, count=self.count, window=self.window)

    def __len__(self) -> int:
        rounds, rest = divmod(len(self.source), self.window * self.count)
        return rounds * self.window + min(self.window, max(0, rest - self.index * self.window))


class _HostRows(RowStream):
    def __init__(self, owner: HostShardedSource, state: State | None) -> None:
        self._owner = owner
        self._stream = owner.source.rows(state["source"] if state else None)
        self._round = self._stream.state()
        self._emitted = 0
        self._stream.skip(owner.index * owner.window)
        if state and state["emitted"]:
            self._emitted = self._stream.skip(state["emitted"])

    def __next__(self) -> Row:
        self._finish_round()
        row = next(self._stream)
        self._emitted += 1
        return row

    def skip(self, rows: int) -> int:
        skipped = 0
        while skipped < rows:
            self._finish_round()
            wanted = min(rows - skipped, self._owner.window - self._emitted)
            found = self._stream.skip(wanted)
            self._emitted += found
            skipped += found
            if found < wanted:
                break
        return skipped

    def state(self) -> State:
        self._finish_round()
        return {"source": self._round, "emitted": self._emitted, "hosts": self._owner.count}

    def origin(self) -> Place:
        return self._stream.origin()

    def _finish_round(self) -> None:
        """If the own window is complete, step over those of the hosts after and, in the next round, before."""
        owner = self._owner
        if self._emitted < owner.window:
            return
        self._stream.skip((owner.count - 1 - owner.index) * owner.window)
        self._round, self._emitted = self._stream.state(), 0
        self._stream.skip(owner.index * owner.window)


class _HostBatches(BatchStream):
    """The same rows as record batches, which stay columns where the source has columns."""

    def __init__(self, owner: HostShardedSource, rows: int, state: State | None) -> None:
        reader = owner.source.reader()
        assert reader is not None
        start = state["source"] if state else owner.source.rows().state()
        self._owner = owner
        self._size = rows
        self._stream = ChunkBatchStream(reader, start, owner.window)
        self._round = start
        self._emitted = 0
        self._stream.skip(owner.index * owner.window)
        if state and state["emitted"]:
            self._emitted = self._stream.skip(state["emitted"])

    def __next__(self) -> pa.RecordBatch:
        runs: list[Rows] = []
        where, missing = "", self._size
        while missing:
            self._finish_round()
            taken, where = self._stream.take(min(missing, self._owner.window - self._emitted))
            if not taken:
                break
            runs += taken
            count = sum(map(len, taken))
            self._emitted += count
            missing -= count
        if not runs:
            raise StopIteration
        return rows_as_batch(concat_rows(runs, where=where), where=where)

    def state(self) -> State:
        self._finish_round()
        return {"source": self._round, "emitted": self._emitted, "hosts": self._owner.count}

    def _finish_round(self) -> None:
        owner = self._owner
        if self._emitted < owner.window:
            return
        self._stream.skip((owner.count - 1 - owner.index) * owner.window)
        self._round, self._emitted = self._stream.state(), 0
        self._stream.skip(owner.index * owner.window)
