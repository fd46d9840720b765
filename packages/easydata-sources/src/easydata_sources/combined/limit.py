"""LimitedShardedSource: the first n rows of a source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, final

from easydata_sources.combined.wrapping import WrappingSource
from easydata_sources.errors import DataError
from easydata_sources.source import ShardedDataSource, ShardInfo, shard_index
from easydata_sources.streams import RowStream
from easydata_sources.types import Identity, Origin, Row, Rows, State

if TYPE_CHECKING:
    from easydata_sources.shuffling.access import RowAccess


@final
class LimitedShardedSource(WrappingSource):
    """The first `max_rows` rows of a source, over all its shards in order.

    The position is `{"source": …, "consumed": n}`.
    """

    def __init__(self, source: ShardedDataSource, max_rows: int) -> None:
        if max_rows < 0:
            raise DataError(f"A source cannot be limited to {max_rows} rows; 0 or more are possible.")
        self.source = source
        self.max_rows = max_rows

    @property
    def shard_names(self) -> Sequence[str]:
        return self.source.shard_names

    def over(self, source: ShardedDataSource) -> LimitedShardedSource:
        return LimitedShardedSource(source, self.max_rows)

    def identity(self) -> Identity:
        return {"rows of": self.source.identity(), "limit": self.max_rows}

    @property
    def is_endless(self) -> bool:
        return False

    def open_shard(self, name: str) -> Iterator[Row]:
        return islice(self.source.open_shard(name), self._allowance(name))

    def open_shard_at_row(self, name: str, row: int) -> Iterator[Row]:
        allowed = max(0, self._allowance(name) - row)
        return islice(self.source.open_shard_at_row(name, row), allowed) if allowed else iter(())

    def get_shard_info(self, name: str) -> ShardInfo | None:
        info = self.source.get_shard_info(name)
        if info is None or info.num_rows is None:
            return None
        rows = min(info.num_rows, self._allowance(name))
        return ShardInfo(shard_id=info.shard_id, shard_name=name, num_rows=rows, url=info.url)

    def rows(self, state: State | None = None) -> RowStream:
        return _LimitedStream(self, state)

    def access(self) -> RowAccess | None:
        from easydata_sources.shuffling.access import PrefixAccess

        whole = self.source.access()
        return None if whole is None else PrefixAccess(whole, self.max_rows)

    def __len__(self) -> int:
        # The length of a source without end is that of an epoch, which says nothing of where reading stops.
        return self.max_rows if self.source.is_endless else min(self.max_rows, len(self.source))

    def _allowance(self, name: str) -> int:
        """Returns how many rows the shards before leave for this one."""
        left = self.max_rows
        for earlier in self.shard_names[: shard_index(self, name)]:
            info = self.source.get_shard_info(earlier)
            if info is not None and info.num_rows is not None:
                left -= info.num_rows
            else:
                left -= sum(1 for _ in islice(self.source.open_shard(earlier), left))
            if left <= 0:
                return 0
        return left


@final
class _LimitedStream(RowStream):
    def __init__(self, owner: LimitedShardedSource, state: State | None) -> None:
        self._stream = owner.source.rows(state["source"] if state else None)
        self._consumed = state["consumed"] if state else 0
        self._limit = owner.max_rows

    def __next__(self) -> Row:
        if self._consumed >= self._limit:
            raise StopIteration
        row = next(self._stream)
        self._consumed += 1
        return row

    def take(self, rows: int) -> Rows | None:
        left = min(rows, self._limit - self._consumed)
        run = self._stream.take(left) if left else None
        self._consumed += 0 if run is None else len(run)
        return run

    def state(self) -> State:
        return {"source": self._stream.state(), "consumed": self._consumed}

    def skip(self, rows: int) -> int:
        skipped = self._stream.skip(min(rows, self._limit - self._consumed))
        self._consumed += skipped
        return skipped

    def origin(self) -> Origin:
        return self._stream.origin()

    def origin_of_run(self, rows: int) -> Origin:
        return self._stream.origin_of_run(rows)
