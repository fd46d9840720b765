"""The two abstract classes behind the sources that read data themselves: by chunks, and from files."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import copy
from functools import partial
from itertools import accumulate
from os.path import basename
from typing import TYPE_CHECKING, Any

from easydata_sources.bad_row import FILE_FAULTS, BadRow, Care
from easydata_sources.errors import DataError, DataFormatError
from easydata_sources.files import DataFile, DataFilesLike, expand_data_files
from easydata_sources.identity import Identity, file_identity
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
    beyond_the_end,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from easydata_sources.access import RowAccess


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

    def reader(self) -> ChunkReader:
        return self

    def open_shard(self, name: str) -> Iterator[Row]:
        return self.open_shard_at_row(name, 0)

    def open_shard_at_row(self, name: str, row: int) -> Iterator[Row]:
        shard = shard_index(self, name)
        for chunk in self.read_shard(shard, {"shard": shard, "row": row}):
            yield from rows_as_dicts(chunk.rows)

    def chunks(self, start: State) -> Iterator[Chunk]:
        position = start
        for shard in range(start["shard"], self.num_shards()):
            found = False
            try:
                for chunk in self.read_shard(shard, position):
                    found = True
                    yield chunk
            except DataFormatError:
                if not found and position["row"]:
                    with suppress(DataFormatError):  # what is broken has no length
                        self._check_within(shard, position["row"])
                raise
            if not found and position["row"]:
                self._check_within(shard, position["row"])
            position = {"shard": shard + 1, "row": 0}

    def seek(self, start: State, rows: int) -> tuple[State, int]:
        shard, row, left = start["shard"], start["row"], rows
        reached = start
        if row and shard < self.num_shards():
            self._check_within(shard, row)
        while left and shard < self.num_shards():
            here = min(left, max(0, self.shard_length(shard) - row))
            if here:
                reached = {"shard": shard, "row": row + here}
            left -= here
            shard, row = shard + 1, 0
        return self._as_read(start, reached), rows - left

    def _check_within(self, shard: int, row: int) -> None:
        """Raise if a shard has fewer rows than a position says were given of it."""
        length = self.shard_length(shard)
        if row > length:
            raise beyond_the_end(f"{row} rows were given of {self.shard_names[shard]}, which has {length}")

    def position_after(self, shard: int, row: int) -> State | None:
        """Return the position after the first `row` rows of a shard as reading them would give it.

        A position depends on nothing but the rows before it, so that hosts which came to it in different ways save
        equal states. `None`, the default, says that only reading tells.
        """
        return None

    def _as_read(self, start: State, reached: State) -> State:
        """Return the position that reading from `start` on would give at the shard and row of `reached`."""
        shard, row = reached["shard"], reached["row"]
        if reached is start:
            return start
        known = self.position_after(shard, row)
        if known is not None:
            return known
        begin = start if start["shard"] == shard else {"shard": shard, "row": 0}
        done = begin["row"]
        for chunk in self.read_shard(shard, begin):
            if done + len(chunk.rows) >= row:
                return chunk.state_after(row - done)
            done += len(chunk.rows)
        return reached

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
        self._names = _distinct([file.name for file in self.files])
        self._lengths: dict[int, int] = {}
        self.care = Care()

    @property
    def shard_names(self) -> Sequence[str]:
        return self._names

    def read_shard(self, shard: int, position: State) -> Iterator[Chunk]:
        return self._marked(shard, position) if self.care.marks else self._read(shard, position)

    def with_care(self, care: Care) -> ShardedDataSource:
        source = copy(self)
        source.care = care
        source._lengths = {}  # a damaged file has a length only for those who mark the damage
        return source

    def data_files(self) -> Sequence[DataFile]:
        return self.files

    def identity(self) -> Identity:
        files = [
            {"name": basename(file.url.partition("?")[0]), **self.resiliently(shard, partial(file_identity, file))}
            for shard, file in enumerate(self.files)
        ]
        return {"source": type(self).__qualname__, **self.reading_options(), "files": files}

    def reading_options(self) -> dict[str, Any]:
        """Return the options that decide what rows a file gives."""
        return {}

    @abstractmethod
    def read_file(self, shard: int, position: State) -> Iterator[Chunk]:
        """Yield the file's rows from the position on, in one try."""

    def position_after(self, shard: int, row: int) -> State | None:
        if self.care.marks and row == self.shard_length(shard):
            # Whether the last row stands for the rest of a broken file only reading it tells.
            return next(self.read_shard(shard, {"shard": shard, "row": row - 1})).state_after(1)
        try:
            extra = self.resiliently(shard, lambda: self.hints_after(shard, row))
        except FILE_FAULTS:
            if not self.care.marks:
                raise
            return None
        return None if extra is None else {"shard": shard, "row": row, **extra}

    def hints_after(self, shard: int, row: int) -> State | None:
        """Return what a position after `row` rows of the file says besides shard and row; None = only reading tells."""
        return None

    def shard_length(self, shard: int) -> int:
        if shard not in self._lengths:
            try:
                self._lengths[shard] = self.resiliently(shard, lambda: self.count_rows(shard))
            except FILE_FAULTS:
                if not self.care.marks:
                    raise
                chunks = self.read_shard(shard, {"shard": shard, "row": 0})
                self._lengths[shard] = sum(len(chunk.rows) for chunk in chunks)
        return self._lengths[shard]

    @abstractmethod
    def count_rows(self, shard: int) -> int:
        """Return the file's number of rows, in one try."""

    def resiliently(self, shard: int, function: Callable[[], Any]) -> Any:
        """Return `function()`, repeated after network failures if the file is remote."""
        file = self.files[shard]
        if not file.remote:
            return function()
        return call_resiliently(function, policy=self._retries, what=file.name)

    def columns(
        self, shard: int, row: int, batch: pa.RecordBatch, extra: Callable[[int], State] | None = None
    ) -> Iterator[Chunk]:
        """Yield a run of columns as a chunk, unless it holds rows that are too large.

        Args:
            shard: Where it comes from.
            row: Number of its first row.
            batch: The run.
            extra: What a position after k rows of it says besides shard and row.
        """
        giants = too_large_rows(batch, self.care.largest_row_bytes)
        if not giants:
            yield self.chunk(shard, row, batch, extra)
            return
        first = next(iter(giants))
        if self.care.marks:
            yield self.chunk(shard, row, self._without_giants(batch, giants, shard, row), extra)
            return
        if first:
            yield self.chunk(shard, row, batch.slice(0, first), extra)
        raise self.too_large(shard, row + first, giants[first])

    def checked_columns(self, shard: int, row: int, batch: pa.RecordBatch) -> Rows:
        """Return a run of columns with bad rows in place of those that are too large, or raise."""
        giants = too_large_rows(batch, self.care.largest_row_bytes)
        if not giants:
            return batch
        if self.care.marks:
            return self._without_giants(batch, giants, shard, row)
        first = next(iter(giants))
        raise self.too_large(shard, row + first, giants[first])

    def too_large(self, shard: int, row: int, size: int) -> DataFormatError:
        """Return the error for a row of `size` bytes."""
        return DataFormatError(
            "A row is larger than rows may be.",
            file=self.files[shard].name,
            row=row,
            found=f"{size:,} bytes",
            expected=f"at most {self.care.largest_row_bytes:,} bytes",
            mend="cut the row up, or allow it: .on_bad_rows('raise', largest_row_bytes=…)",
            reason="too_large",
        )

    def block_access(self, block_sizes: Callable[[int], Sequence[int]], read: Callable[[int, int], Rows]) -> RowAccess:
        """Return random access by blocks that never reach over a file.

        Args:
            block_sizes: Rows in each block of a shard, in one try.
            read: Returns the rows of block `number` of a shard, in one try.
        """
        from easydata_sources.access import BlockAccess

        blocks, lengths, places = [], [], []
        for shard, name in enumerate(self.shard_names):
            sizes = self._block_sizes(shard, block_sizes)
            blocks += [(shard, number) for number in range(len(sizes))]
            lengths += sizes
            places += [(name, first) for first in accumulate(sizes[:-1], initial=0)] if sizes else []

        def read_block(block: int) -> Rows:
            shard, number = blocks[block]
            try:
                return self.resiliently(shard, lambda: read(shard, number))
            except FILE_FAULTS as error:
                if not self.care.marks:
                    raise
                return [BadRow(self._placed(error, shard, places[block][1]))] * lengths[block]

        return BlockAccess(lengths, places, read_block)

    def get_shard_info(self, name: str) -> ShardInfo | None:
        shard = shard_index(self, name)
        file = self.files[shard]
        try:
            size = self.resiliently(shard, file.size)
        except FileNotFoundError:
            if not self.care.marks:
                raise
            size = None
        # Not the rows either, even where they have been counted: what is said of a file is the same whenever asked, as
        # it is written down and compared.
        return ShardInfo(shard_id=shard, shard_name=name, byte_size=size, url=file.name)

    def _without_giants(self, batch: pa.RecordBatch, giants: Mapping[int, int], shard: int, row: int) -> list[Row]:
        rows = rows_as_dicts(batch)
        for index, size in giants.items():
            rows[index] = BadRow(self.too_large(shard, row + index, size))
        return rows

    def _read(self, shard: int, position: State) -> Iterator[Chunk]:
        file = self.files[shard]
        if not file.remote:
            return self.read_file(shard, position)
        return read_resiliently(
            lambda state: self.read_file(shard, state), position, policy=self._retries, what=file.name
        )

    def _marked(self, shard: int, position: State) -> Iterator[Chunk]:
        """Yield the shard's chunks; where reading fails, the rest of the shard is one bad row."""
        if position.get("broken"):
            return
        at = position
        try:
            for chunk in self._read(shard, position):
                yield chunk
                at = chunk.state_after(len(chunk.rows))
        except FILE_FAULTS as error:
            row = at["row"]
            if at is position and row and not isinstance(error, FileNotFoundError) and row >= self.shard_length(shard):
                return  # the failure lies before the position: it was one of the rows given
            yield self._rest(shard, at, BadRow(self._placed(error, shard, row)))

    def _rest(self, shard: int, at: State, bad: BadRow) -> Chunk:
        after = {"shard": shard, "row": at["row"] + 1, "broken": True}
        name = self.shard_names[shard]
        return Chunk(
            rows=[bad], state_after=lambda given: dict(after if given else at), place=lambda _: (name, at["row"])
        )

    def _placed(self, error: Exception, shard: int, row: int) -> DataFormatError:
        if isinstance(error, DataFormatError):
            return error.located(file=self.files[shard].name, row=row)
        return DataFormatError(
            "A file that was listed is not there any more.",
            file=self.files[shard].name,
            row=row,
            found=str(error),
            expected="the rest of its rows",
            mend="bring it back, or list the files again",
            reason="file_gone",
        )

    def _block_sizes(self, shard: int, block_sizes: Callable[[int], Sequence[int]]) -> list[int]:
        try:
            return list(self.resiliently(shard, lambda: block_sizes(shard)))
        except FILE_FAULTS:
            if not self.care.marks:
                raise
            return [1]  # the bad row that stands for the file


def too_large_rows(batch: pa.RecordBatch, limit: int) -> dict[int, int]:
    """Return the size in bytes of each row that has more than `limit`."""
    if batch.nbytes <= limit:
        return {}
    sizes = ((index, batch.slice(index, 1).nbytes) for index in range(batch.num_rows))
    return {index: size for index, size in sizes if size > limit}


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """The names, numbered where some are equal: addresses may differ in nothing but what is not shown."""
    seen: dict[str, int] = {}
    for name in names:
        seen[name] = seen.get(name, 0) + 1
    repeated = {name: 0 for name, count in seen.items() if count > 1}
    distinct = []
    for name in names:
        if name in repeated:
            repeated[name] += 1
        distinct.append(f"{name} ({repeated[name]})" if repeated.get(name, 0) > 1 else name)
    return tuple(distinct)
