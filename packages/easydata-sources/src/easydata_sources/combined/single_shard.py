"""SingleShardSource: base of the sources whose order crosses shards, and which therefore have only one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from easydata_sources.source import ShardedDataSource, ShardInfo, shard_index
from easydata_sources.types import Row


class SingleShardSource(ShardedDataSource):
    """A source that is defined by `rows(state)`, seen as one shard."""

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
