"""GuardedSource: any source, with one bad row in place of what comes after a failure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import final

from easydata_sources.bad_rows.bad_row import FILE_FAULTS, BadRow, Care
from easydata_sources.combined.wrapping import WrappingSource
from easydata_sources.source import ShardedDataSource, ShardInfo
from easydata_sources.streams import RowStream
from easydata_sources.types import Identity, Origin, Row, State


@final
class GuardedSource(WrappingSource):
    """A source of a class that knows nothing of bad rows; where it fails, the rest of its shard is one bad row.

    Args:
        source: The source. If it has a `rows` of its own, that is read, and the rest is that of the stream.
    """

    def __init__(self, source: ShardedDataSource) -> None:
        self.source = source

    @property
    def shard_names(self) -> Sequence[str]:
        return self.source.shard_names

    def identity(self) -> Identity:
        return self.source.identity()

    def over(self, source: ShardedDataSource) -> GuardedSource:
        return GuardedSource(source)

    def get_shard_info(self, name: str) -> ShardInfo | None:
        info = self.source.get_shard_info(name)
        return info and ShardInfo(shard_id=info.shard_id, shard_name=name, byte_size=info.byte_size, url=info.url)

    def with_care(self, care: Care) -> ShardedDataSource:
        return self if care.marks else self.source  # which knows nothing of bad rows

    def open_shard(self, name: str) -> Iterator[Row]:
        return self.open_shard_at_row(name, 0)

    def open_shard_at_row(self, name: str, row: int) -> Iterator[Row]:
        try:
            yield from self.source.open_shard_at_row(name, row)
        except FILE_FAULTS as error:
            yield BadRow(error)

    def rows(self, state: State | None = None) -> RowStream:
        if type(self.source).rows is ShardedDataSource.rows:
            return super().rows(state)
        return _GuardedStream(self.source, state)


@final
class _GuardedStream(RowStream):
    def __init__(self, source: ShardedDataSource, state: State | None) -> None:
        self._failed = bool(state and state["failed"])
        self._stream = source.rows(state and state["source"])

    def __next__(self) -> Row:
        if self._failed:
            raise StopIteration
        try:
            return next(self._stream)
        except FILE_FAULTS as error:
            self._failed = True
            return BadRow(error)

    def state(self) -> State:
        return {"source": self._stream.state(), "failed": self._failed}

    def origin(self) -> Origin:
        return self._stream.origin()

    def origin_of_run(self, rows: int) -> Origin:
        return self._stream.origin_of_run(rows)
