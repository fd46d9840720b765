"""ArrowShardedSource: rows of Arrow IPC files and streams (the latter is what `datasets` writes to disk)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING

from easydata_sources.chunked import FileSource
from easydata_sources.errors import DataFormatError
from easydata_sources.files import DataFile, DataFilesLike
from easydata_sources.retry import RetryPolicy
from easydata_sources.rows import Rows
from easydata_sources.streams import Chunk, State

if TYPE_CHECKING:
    import pyarrow as pa

    from easydata_sources.access import RowAccess

ARROW_EXTENSIONS = (".arrow", ".ipc", ".feather")

_FILE_MAGIC = b"ARROW1"


class ArrowShardedSource(FileSource):
    """Rows of Arrow IPC files, one shard per file; file and stream format are told apart by their first bytes.

    The file format has an index of its record batches, and the position names the batch, so resuming reads on from
    the right one (a bare row number costs a look at the batches before it). The stream
    format has none: resuming steps over the batches before, which copies nothing from local files.

    Args:
        data_files: Path, glob, folder or URL, or a list of them.
        storage_options: Arguments for the file system (see `expand_data_files`).
        retries: Patience with failing reads of remote files.
    """

    def __init__(
        self,
        data_files: DataFilesLike,
        storage_options: Mapping[str, object] | None = None,
        *,
        retries: RetryPolicy | None = None,
    ) -> None:
        super().__init__(data_files, storage_options, retries, ARROW_EXTENSIONS)
        self._ends: dict[int, list[int]] = {}

    def read_file(self, shard: int, position: State) -> Iterator[Chunk]:
        row = position["row"]
        with self._open(shard) as reader:
            for number, start, batch in self._batches_from(shard, reader, position):
                wanted = batch.slice(max(0, row - start))
                if wanted.num_rows:
                    yield from self.columns(shard, row, wanted, partial(_batch_after, number, start, batch, row))
                    row += wanted.num_rows

    def count_rows(self, shard: int) -> int:
        ends = self._batch_ends(shard)
        return ends[-1] if ends else 0

    def hints_after(self, shard: int, row: int) -> State:
        ends = self._batch_ends(shard)
        last = bisect_left(ends, row)  # the batch that holds the row before
        return _batch_at(last, ends[last - 1] if last else 0, row, ends[last])

    def access(self) -> RowAccess | None:
        if not all(self._can_seek(shard) for shard in range(self.num_shards())):
            return None
        return self.block_access(self._batch_sizes, self._read_batch)

    def _can_seek(self, shard: int) -> bool:
        try:
            return self.resiliently(shard, lambda: self._is_indexed(shard))
        except FileNotFoundError:
            if not self.care.marks:
                raise
            return True  # one bad row, whatever it was

    def _batch_sizes(self, shard: int) -> list[int]:
        ends = self._batch_ends(shard)
        return [end - start for start, end in zip([0, *ends], ends, strict=False)]

    def _batches_from(
        self, shard: int, reader: pa.RecordBatchFileReader | pa.RecordBatchStreamReader, position: State
    ) -> Iterator[tuple[int, int, pa.RecordBatch]]:
        """Yield (number of the batch, of its first row, batch) from the batch that holds the position on."""
        import pyarrow as pa

        if isinstance(reader, pa.RecordBatchFileReader):
            first, start = self._first_batch(shard, position)
            for number in range(first, reader.num_record_batches):
                batch = reader.get_batch(number)
                yield number, start, batch
                start += batch.num_rows
            return
        start = 0
        for number, batch in enumerate(reader):
            if start + batch.num_rows > position["row"]:
                yield number, start, batch
            start += batch.num_rows

    def _first_batch(self, shard: int, position: State) -> tuple[int, int]:
        """Return the number of the batch that holds the position, and of its first row."""
        if "batch" in position:
            return position["batch"], position["batch_row"]
        if position["row"] == 0:
            return 0, 0
        ends = [0, *self._batch_ends(shard)]
        number = bisect_right(ends, position["row"]) - 1
        return number, ends[number]

    def _read_batch(self, shard: int, number: int) -> Rows:
        with self._open(shard) as reader:
            batch = reader.get_batch(number)
        ends = self._batch_ends(shard)
        return self.checked_columns(shard, ends[number - 1] if number else 0, batch)

    def _batch_ends(self, shard: int) -> list[int]:
        """Return the row number after each record batch."""
        import pyarrow as pa

        if shard not in self._ends:
            with self._open(shard) as reader:
                if isinstance(reader, pa.RecordBatchFileReader):
                    batches = map(reader.get_batch, range(reader.num_record_batches))
                else:
                    batches = iter(reader)
                self._ends[shard] = list(accumulate(batch.num_rows for batch in batches))
        return self._ends[shard]

    def _is_indexed(self, shard: int) -> bool:
        with self.files[shard].open() as file:
            return file.read(len(_FILE_MAGIC)) == _FILE_MAGIC

    @contextmanager
    def _open(self, shard: int) -> Iterator[pa.RecordBatchFileReader | pa.RecordBatchStreamReader]:
        import pyarrow as pa

        file = self.files[shard]
        try:
            with _open_mapped(file) as handle:
                indexed = handle.read(len(_FILE_MAGIC)) == _FILE_MAGIC
                handle.seek(0)
                with pa.ipc.open_file(handle) if indexed else pa.ipc.open_stream(handle) as reader:
                    yield reader
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and "to be able to read" not in str(error):  # Arrow: cut off in a message
                raise
            raise DataFormatError(
                "The file cannot be read as Arrow IPC.",
                file=file.name,
                found=f"{file.size()} bytes; {error}",
                expected="a complete Arrow IPC file or stream",
                mend="write or download it again; it is damaged or was cut off",
                reason="damaged_file",
            ) from error


def _batch_at(number: int, start: int, row: int, end: int) -> State:
    """Return where `row` lies, which is in batch `number`, of the rows `start` to `end`, or the first one behind it."""
    return {"batch": number, "batch_row": start} if row < end else {"batch": number + 1, "batch_row": end}


def _batch_after(number: int, start: int, batch: pa.RecordBatch, row: int, given: int) -> State:
    return _batch_at(number, start, row + given, start + batch.num_rows)


def _open_mapped(file: DataFile) -> pa.NativeFile:
    import pyarrow as pa

    # Mapped, batches that are stepped over are never read from disk. An empty file cannot be mapped.
    return file.open_for_arrow() if file.remote or not file.size() else pa.memory_map(file.url)
