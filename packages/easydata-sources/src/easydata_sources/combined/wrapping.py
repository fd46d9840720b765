"""WrappingSource and SameRowsSource: bases of the sources that are made of one other."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from easydata_sources.bad_rows.bad_row import Care
from easydata_sources.source import ShardedDataSource
from easydata_sources.streams import RowStream
from easydata_sources.types import Row, State

if TYPE_CHECKING:
    from easydata_sources.shuffling.access import RowAccess
    from easydata_sources.storage.files import DataFile


class WrappingSource(ShardedDataSource):
    """A source that changes, orders, bounds or shares the rows of another one, and is for the rest what that is.

    Attributes:
        source: The other one.
    """

    source: ShardedDataSource

    @abstractmethod
    def over(self, source: ShardedDataSource) -> ShardedDataSource:
        """Returns the same over another source."""

    @property
    def is_endless(self) -> bool:
        return self.source.is_endless

    @property
    def has_repeatable_order(self) -> bool:
        return self.source.has_repeatable_order

    def at_epoch(self, epoch: int) -> ShardedDataSource:
        source = self.source.at_epoch(epoch)
        return self if source is self.source else self.over(source)

    def with_care(self, care: Care) -> ShardedDataSource:
        return self.over(self.source.with_care(care))

    def data_files(self) -> Sequence[DataFile]:
        return self.source.data_files()


class SameRowsSource(ShardedDataSource):
    """A source whose rows are those of another one, in their order."""

    @abstractmethod
    def row_source(self) -> ShardedDataSource:
        """Returns the other one."""

    def rows(self, state: State | None = None) -> RowStream:
        return self.row_source().rows(state)

    def open_shard(self, name: str) -> Iterator[Row]:
        return self.row_source().open_shard(name)

    def open_shard_at_row(self, name: str, row: int) -> Iterator[Row]:
        return self.row_source().open_shard_at_row(name, row)

    def access(self) -> RowAccess | None:
        return self.row_source().access()
