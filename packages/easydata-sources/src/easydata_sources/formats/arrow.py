"""ArrowShardedSource: rows of Arrow IPC files and streams (the latter is what `datasets` writes to disk)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeAlias, final

from easydata_sources.bad_rows.bad_row import BadRow
from easydata_sources.formats.arrow_input import ArrowFormat, ArrowInput, arrow_input, damage_errors
from easydata_sources.formats.column_names import check_names
from easydata_sources.formats.file_source import FileSource
from easydata_sources.storage.files import DataFilesLike
from easydata_sources.storage.retry import RetryPolicy
from easydata_sources.streams import Chunk
from easydata_sources.types import Rows, State

if TYPE_CHECKING:
    import pyarrow as pa

    from easydata_sources.shuffling.access import RowAccess

_Reader: TypeAlias = "pa.RecordBatchFileReader | pa.RecordBatchStreamReader"

ARROW_EXTENSIONS = (".arrow", ".ipc", ".feather")

_FILE_MAGIC = b"ARROW1"
_FORMAT = ArrowFormat(name="Arrow IPC", mend="write or download it again; it is damaged or was cut off")


@final
class ArrowShardedSource(FileSource):
    """Rows of Arrow IPC files, one shard per file; file and stream format are told apart by their first bytes.

    The file format has an index of its record batches, and the position names the batch, so resuming reads on from
    the right one (a bare row number costs a look at the batches before it). The stream
    format has none: resuming reads over the batches before.

    A folder that `datasets.Dataset.save_to_disk` wrote is read too.

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

    def reading_options(self) -> dict[str, Any]:
        return {}

    def forget_contents(self) -> None:
        self._ends = {}

    def rows_as_listed(self, shard: int) -> None:
        return None

    def read_file(self, shard: int, position: State) -> Iterator[Chunk]:
        row = position["row"]
        with self._open(shard) as (opened, reader):
            number, start = self._first_batch(shard, position) if _is_indexed(reader) else (0, 0)
            for batch in self._batches(opened, reader, number):
                end = start + len(batch)
                if end > row:
                    after = partial(_batch_after, number, start, end, row)
                    if isinstance(batch, list):
                        yield self.chunk(shard, row, batch, after)
                    else:
                        yield from self.columns(shard, row, batch.slice(row - start), after)
                    row = end
                number, start = number + 1, end

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
            return self.resiliently(shard, lambda: self._begins_with_magic(shard))
        except FileNotFoundError:
            if not self.care.marks:
                raise
            return True  # one bad row, whatever it was

    def _batch_sizes(self, shard: int) -> list[int]:
        ends = self._batch_ends(shard)
        return [end - start for start, end in zip([0, *ends], ends, strict=False)]

    def _batches(self, opened: ArrowInput, reader: _Reader, first: int = 0) -> Iterator[Rows]:
        """Yields the batches from number `first` on; it must be 0 for a stream."""
        import pyarrow as pa

        if isinstance(reader, pa.RecordBatchFileReader):
            return (self._batch(opened, reader, number) for number in range(first, reader.num_record_batches))
        return iter(reader)

    def _batch(self, opened: ArrowInput, reader: _Reader, number: int) -> Rows:
        """Returns a batch, or one bad row if it cannot be read: how many it held, nobody knows."""
        try:
            return reader.get_batch(number)
        except damage_errors() as error:
            damage = opened.damage(error) if self.care.marks else None
            if damage is None:
                raise
            return [BadRow(damage)]

    def _first_batch(self, shard: int, position: State) -> tuple[int, int]:
        """Returns the number of the batch that holds the position, and of its first row."""
        if "batch" in position:
            return position["batch"], position["batch_row"]
        if position["row"] == 0:
            return 0, 0
        ends = [0, *self._batch_ends(shard)]
        number = bisect_right(ends, position["row"]) - 1
        return number, ends[number]

    def _read_batch(self, shard: int, number: int) -> Rows:
        with self._open(shard) as (opened, reader):
            batch = self._batch(opened, reader, number)
        ends = self._batch_ends(shard)
        row = ends[number - 1] if number else 0
        return batch if isinstance(batch, list) else self.checked_columns(shard, row, batch)

    def _batch_ends(self, shard: int) -> list[int]:
        """Returns the row number after each record batch."""
        if shard not in self._ends:
            with self._open(shard) as (opened, reader):
                self._ends[shard] = list(accumulate(len(batch) for batch in self._batches(opened, reader)))
        return self._ends[shard]

    def _begins_with_magic(self, shard: int) -> bool:
        with self.files[shard].open() as file:
            return file.read(len(_FILE_MAGIC)) == _FILE_MAGIC

    @contextmanager
    def _open(self, shard: int) -> Iterator[tuple[ArrowInput, _Reader]]:
        import pyarrow as pa

        with arrow_input(self.files[shard], _FORMAT) as opened:
            indexed = opened.handle.read(len(_FILE_MAGIC)) == _FILE_MAGIC
            opened.handle.seek(0)
            with pa.ipc.open_file(opened.handle) if indexed else pa.ipc.open_stream(opened.handle) as reader:
                check_names(self.files[shard], reader.schema.names)
                yield opened, reader


def _is_indexed(reader: _Reader) -> bool:
    import pyarrow as pa

    return isinstance(reader, pa.RecordBatchFileReader)


def _batch_at(number: int, start: int, row: int, end: int) -> State:
    """Returns where `row` lies, which is in batch `number`, of the rows `start` to `end`, or the first behind it."""
    return {"batch": number, "batch_row": start} if row < end else {"batch": number + 1, "batch_row": end}


def _batch_after(number: int, start: int, end: int, row: int, consumed: int) -> State:
    return _batch_at(number, start, row + consumed, end)
