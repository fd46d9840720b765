"""FileSource: the abstract class behind the sources that read files: one shard each, damage told or stepped over."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from itertools import accumulate, islice
from os.path import basename
from typing import TYPE_CHECKING, Any, Self

from easydata_sources.bad_rows.bad_row import FILE_FAULTS, BadRow, Care
from easydata_sources.errors import DataFormatError
from easydata_sources.formats.cells import Fault, faulty_rows, good_runs
from easydata_sources.identity import file_identity
from easydata_sources.rows import rows_as_dicts
from easydata_sources.source import ShardInfo, shard_index
from easydata_sources.storage.as_listed import as_listed
from easydata_sources.storage.compression import compression_of
from easydata_sources.storage.files import DataFile, DataFilesLike, expand_data_files
from easydata_sources.storage.partitions import Partition, add_partition, partitions_of
from easydata_sources.storage.retry import RetryPolicy, call_resiliently, read_resiliently
from easydata_sources.streams import Chunk
from easydata_sources.types import Identity, Row, Rows, State

if TYPE_CHECKING:
    import pyarrow as pa

    from easydata_sources.shuffling.access import RowAccess

from easydata_sources.chunked import ChunkedSource

_GATHERED_ROWS = 256
_NEAR_ROWS = 64
_DECOMPRESSED_ROWS = 16_384  # a position in a compressed file is come to by decompressing all in front of it


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
        self.partitions: list[Partition] = partitions_of(self.files)
        self._lengths: dict[int, int] = {}
        self.care = Care()

    @property
    def shard_names(self) -> Sequence[str]:
        return self._names

    def read_shard(self, shard: int, position: State) -> Iterator[Chunk]:
        return self._marked(shard, position) if self.care.marks else self._read(shard, position)

    def with_care(self, care: Care) -> Self:
        source = copy(self)
        source.care = care
        # A damaged file has a length, and positions, only for those who mark the damage.
        source._lengths = {}
        source.forget_contents()
        return source

    @abstractmethod
    def forget_contents(self) -> None:
        """Forgets what was found in damaged files, or may have been; without changing what other sources know."""

    def data_files(self) -> Sequence[DataFile]:
        return self.files

    def identity(self) -> Identity:
        files = [
            {
                "name": basename(file.filename),
                **({"partition": dict(self.partitions[shard])} if self.partitions[shard] else {}),
                **self.resiliently(shard, partial(file_identity, file)),
            }
            for shard, file in enumerate(self.files)
        ]
        return {"source": type(self).__qualname__, **self.reading_options(), "files": files}

    @abstractmethod
    def reading_options(self) -> dict[str, Any]:
        """Returns the options that decide what rows a file gives."""

    @abstractmethod
    def read_file(self, shard: int, position: State) -> Iterator[Chunk]:
        """Yields the file's rows from the position on, in one try."""

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

    @abstractmethod
    def hints_after(self, shard: int, row: int) -> State | None:
        """Returns what a position after `row` rows of the file says beside shard and row; None = only reading tells."""

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

    def near_rows(self, start: State) -> int:
        compressed = start["shard"] < len(self.files) and compression_of(self.files[start["shard"]]) is not None
        return _DECOMPRESSED_ROWS if compressed else _NEAR_ROWS

    @abstractmethod
    def count_rows(self, shard: int) -> int:
        """Returns the file's number of rows, in one try."""

    def resiliently(self, shard: int, function: Callable[[], Any]) -> Any:
        """Returns `function()`, repeated after network failures if the file is remote.

        Raises:
            DataFormatError: Among others, if the file is not the one that was listed.
        """
        file = self.files[shard]
        with as_listed(file):
            if not file.remote:
                return function()
            return call_resiliently(function, policy=self._retries, what=file.name)

    def columns(
        self, shard: int, row: int, batch: pa.RecordBatch, extra: Callable[[int], State] | None = None
    ) -> Iterator[Chunk]:
        """Yields a run of columns as a chunk, unless it holds rows that are too large.

        Args:
            shard: Where it comes from.
            row: Number of its first row.
            batch: The run.
            extra: What a position after k rows of it says besides shard and row.
        """
        faults = faulty_rows(batch, self.care.largest_row_bytes)
        if not faults:
            yield self.chunk(shard, row, batch, extra)
            return
        if self.care.marks:
            yield self.chunk(shard, row, self._marked_columns(batch, faults, shard, row), extra)
            return
        first = min(faults)
        if first:
            yield self.chunk(shard, row, batch.slice(0, first), extra)
        raise self._fault(shard, row + first, faults[first])

    def checked_columns(self, shard: int, row: int, batch: pa.RecordBatch) -> Rows:
        """Returns a run of columns with bad rows in place of those that cannot be used, or raises."""
        faults = faulty_rows(batch, self.care.largest_row_bytes)
        if not faults:
            return batch
        if self.care.marks:
            return self._marked_columns(batch, faults, shard, row)
        first = min(faults)
        raise self._fault(shard, row + first, faults[first])

    def gathered(self, shard: int, row: int, offset: int, values: Iterator[tuple[Row, int]]) -> Iterator[Chunk]:
        """Yields chunks of rows whose position also holds a byte offset; rows in front of a failure come before it.

        Args:
            shard: Where they come from.
            row: Number of the first.
            offset: Byte at which it begins.
            values: (row, byte behind it).
        """
        while True:
            rows: list[Row] = []
            offsets = [offset]
            failure = None
            try:
                for value, end in islice(values, _GATHERED_ROWS):
                    rows.append(value)
                    offsets.append(end)
            except Exception as error:  # noqa: BLE001 - whatever it is, the rows in front of it are sound
                failure = error
            if rows:
                yield self.chunk(shard, row, rows, lambda consumed, at=offsets: {"offset": at[consumed]})
            if failure is not None:
                raise failure
            if not rows:
                return
            row, offset = row + len(rows), offsets[-1]

    def too_large(self, shard: int, row: int, size: int) -> DataFormatError:
        """Returns the error for a row of `size` bytes."""
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
        """Returns random access by blocks that never reach over a file.

        Args:
            block_sizes: Rows in each block of a shard, in one try.
            read: Returns the rows of block `number` of a shard, in one try.
        """
        from easydata_sources.shuffling.access import BlockAccess

        blocks, lengths, origins = [], [], []
        for shard, name in enumerate(self.shard_names):
            sizes = self._block_sizes(shard, block_sizes)
            blocks += [(shard, number) for number in range(len(sizes))]
            lengths += sizes
            origins += [(name, first) for first in accumulate(sizes[:-1], initial=0)] if sizes else []

        def read_block(block: int) -> Rows:
            shard, number = blocks[block]
            try:
                rows = self.resiliently(shard, lambda: read(shard, number))
                return add_partition(rows, self.partitions[shard]) if self.partitions[shard] else rows
            except FILE_FAULTS as error:
                if not self.care.marks:
                    raise
                return [BadRow(self._located(error, shard, origins[block][1]))] * lengths[block]

        return BlockAccess(lengths, origins, read_block)

    def get_shard_info(self, name: str) -> ShardInfo | None:
        shard = shard_index(self, name)
        file = self.files[shard]
        try:
            size = self.resiliently(shard, file.size)
        except FILE_FAULTS:
            if not self.care.marks:
                raise
            size = None
        # Rows that had to be counted are not told, even if they have been: what is said of a file is the same whenever
        # asked, as it is written down and compared.
        rows = self.rows_as_listed(shard)
        return ShardInfo(shard_id=shard, shard_name=name, num_rows=rows, byte_size=size, url=file.name)

    @abstractmethod
    def rows_as_listed(self, shard: int) -> int | None:
        """Returns the file's number of rows if it says so itself; None = they must be counted."""

    def _marked_columns(self, batch: pa.RecordBatch, faults: Mapping[int, Fault], shard: int, row: int) -> list[Row]:
        rows: list[Row] = [{}] * batch.num_rows
        for start, stop in good_runs(faults, batch.num_rows):
            rows[start:stop] = rows_as_dicts(batch.slice(start, stop - start))
        for index, fault in faults.items():
            rows[index] = BadRow(self._fault(shard, row + index, fault))
        return rows

    def _fault(self, shard: int, row: int, fault: Fault) -> DataFormatError:
        if fault.bytes is not None:
            return self.too_large(shard, row, fault.bytes)
        return DataFormatError(
            "A row holds a value that cannot be read.",
            file=self.files[shard].name,
            row=row,
            column=fault.column,
            found=fault.found,
            expected="sound values that Python has a counterpart for",
            mend="write the column again as another type, leave it out, or skip such rows: .on_bad_rows('skip')",
            reason="unreadable_value",
        )

    def _read(self, shard: int, position: State) -> Iterator[Chunk]:
        file = self.files[shard]
        if file.remote:
            chunks = read_resiliently(
                lambda state: self.read_file(shard, state), position, policy=self._retries, what=file.name
            )
        else:
            chunks = self.read_file(shard, position)
        row = position["row"]
        try:
            with as_listed(file):
                for chunk in chunks:
                    yield self._with_partition(shard, chunk)
                    row += len(chunk.rows)
        except DataFormatError as error:
            if error.row is None:
                error.row = row
            raise

    def _with_partition(self, shard: int, chunk: Chunk) -> Chunk:
        partition = self.partitions[shard]
        return replace(chunk, rows=add_partition(chunk.rows, partition)) if partition else chunk

    def _marked(self, shard: int, position: State) -> Iterator[Chunk]:
        """Yields the shard's chunks; where reading fails, the rest of the shard is one bad row."""
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
            yield self._rest(shard, at, BadRow(self._located(error, shard, row)))

    def _rest(self, shard: int, at: State, bad: BadRow) -> Chunk:
        after = {"shard": shard, "row": at["row"] + 1, "broken": True}
        name = self.shard_names[shard]
        return Chunk(
            rows=[bad], state_after=lambda consumed: dict(after if consumed else at), origin=lambda _: (name, at["row"])
        )

    def _located(self, error: Exception, shard: int, row: int) -> DataFormatError:
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


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Returns the names, numbered where some are equal: addresses may differ in nothing but what is not shown."""
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


def stepped_over(values: Iterator[tuple[Row, int]], count: int, offset: int) -> int:
    """Steps over `count` of the (row, byte behind it) and returns the byte behind the last; `offset` if there is
    none.
    """
    for _, end in islice(values, count):
        offset = end
    return offset
