"""The two abstract classes behind the sources that read data themselves: by chunks, and from files."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from easydata_sources.errors import DataError
from easydata_sources.files import DataFile, DataFilesLike, expand_data_files
from easydata_sources.retry import RetryPolicy, call_resiliently, read_resiliently
from easydata_sources.rows import Row, Rows, rows_as_dicts
from easydata_sources.source import ShardedDataSource, ShardInfo, check_batch_size, shard_index
from easydata_sources.streams import (
    BatchStream,
    Chunk,
    ChunkBatchStream,
    ChunkReader,
    ChunkRowStream,
    RowStream,
    State,
)


class ChunkedSource(ShardedDataSource, ChunkReader):
    """A source that reads runs of rows; its position is `{"shard": index, "row": row, …}`.

    A subclass says how one shard is read from a position on. It may add keys of its own to the position
    (such as a byte offset), which it finds again there; it must also work without them.
    """

    @abstractmethod
    def read_shard(self, shard: int, position: State) -> Iterator[Chunk]:
        """Yield the shard's rows from `position["row"]` on; nothing at or beyond its end."""

    def rows(self, state: State | None = None) -> RowStream:
        return ChunkRowStream(self, self._start(state))

    def batches(self, rows: int = 1024, state: State | None = None) -> BatchStream:
        return ChunkBatchStream(self, self._start(state), check_batch_size(rows))

    def open_shard(self, name: str) -> Iterator[Row]:
        return self.open_shard_at_row(name, 0)

    def open_shard_at_row(self, name: str, row: int) -> Iterator[Row]:
        shard = shard_index(self, name)
        for chunk in self.read_shard(shard, {"shard": shard, "row": row}):
            yield from rows_as_dicts(chunk.rows)

    def chunks(self, start: State) -> Iterator[Chunk]:
        position = start
        for shard in range(start["shard"], self.num_shards()):
            yield from self.read_shard(shard, position)
            position = {"shard": shard + 1, "row": 0}

    def seek(self, start: State, rows: int) -> tuple[State, int]:
        shard, row, left = start["shard"], start["row"], rows
        while shard < self.num_shards():
            available = self.shard_length(shard) - row
            if left < available:
                return {"shard": shard, "row": row + left}, rows
            left -= available
            shard, row = shard + 1, 0
        return {"shard": shard, "row": 0}, rows - left

    @abstractmethod
    def shard_length(self, shard: int) -> int:
        """Return the shard's number of rows, without decoding them if the format allows."""

    def __len__(self) -> int:
        return sum(self.shard_length(shard) for shard in range(self.num_shards()))

    def chunk(self, shard: int, first_row: int, rows: Rows, extra: Callable[[int], State] | None = None) -> Chunk:
        """Return a chunk whose position after k rows is (shard, first_row + k) plus `extra(k)`."""

        def state_after(given: int) -> State:
            return {"shard": shard, "row": first_row + given, **(extra(given) if extra else {})}

        name = self.shard_names[shard]
        return Chunk(rows=rows, state_after=state_after, place=lambda row: (name, first_row + row))

    def _start(self, state: State | None) -> State:
        start = {"shard": 0, "row": 0} if state is None else state
        if not {"shard", "row"} <= start.keys() or start["shard"] > self.num_shards():
            raise DataError(
                f"The position {start} does not belong to this {type(self).__name__} of {self.num_shards()} "
                "shards.\n  mend: restore it into a source made of the same files in the same order"
            )
        return start


class FileSource(ChunkedSource):
    """A source with one shard per file; reads of remote files are retried at the position reached."""

    def __init__(
        self,
        data_files: DataFilesLike,
        storage_options: Mapping[str, Any] | None,
        retries: RetryPolicy | None,
        extensions: Sequence[str],
    ) -> None:
        self.files: list[DataFile] = expand_data_files(
            data_files, storage_options=storage_options, extensions=extensions
        )
        self._retries = retries or RetryPolicy()
        self._names = tuple(file.url for file in self.files)
        self._lengths: dict[int, int] = {}

    @property
    def shard_names(self) -> Sequence[str]:
        return self._names

    def read_shard(self, shard: int, position: State) -> Iterator[Chunk]:
        file = self.files[shard]
        if not file.remote:
            return self.read_file(shard, position)
        return read_resiliently(
            lambda state: self.read_file(shard, state), position, policy=self._retries, what=file.url
        )

    @abstractmethod
    def read_file(self, shard: int, position: State) -> Iterator[Chunk]:
        """Yield the file's rows from the position on, in one try."""

    def shard_length(self, shard: int) -> int:
        if shard not in self._lengths:
            self._lengths[shard] = self.resiliently(shard, lambda: self.count_rows(shard))
        return self._lengths[shard]

    @abstractmethod
    def count_rows(self, shard: int) -> int:
        """Return the file's number of rows, in one try."""

    def resiliently(self, shard: int, function: Callable[[], Any]) -> Any:
        """Return `function()`, repeated after network failures if the file is remote."""
        file = self.files[shard]
        if not file.remote:
            return function()
        return call_resiliently(function, policy=self._retries, what=file.url)

    def get_shard_info(self, name: str) -> ShardInfo | None:
        shard = shard_index(self, name)
        file = self.files[shard]
        size = self.resiliently(shard, file.size)
        rows = self._lengths.get(shard)
        return ShardInfo(shard_id=shard, shard_name=name, num_rows=rows, byte_size=size, url=file.url)
