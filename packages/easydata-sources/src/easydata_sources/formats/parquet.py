"""ParquetShardedSource: rows of Parquet files, read by row groups and chosen columns.

Resuming seeks to the row group that holds the next row and decodes on from its beginning; nothing before it
is read. Row groups are decoded in slices, so a group of a million rows never becomes a million dicts at
once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import TYPE_CHECKING, Any, final

from easydata_sources.bad_rows.bad_row import BadRow
from easydata_sources.errors import DataFormatError
from easydata_sources.formats.arrow_input import ArrowFormat, ArrowInput, arrow_input, damage_errors
from easydata_sources.formats.column_names import check_names
from easydata_sources.formats.file_source import FileSource
from easydata_sources.rows import concat_rows, table_as_batch
from easydata_sources.storage.files import DataFile, DataFilesLike
from easydata_sources.storage.retry import RetryPolicy
from easydata_sources.streams import Chunk
from easydata_sources.types import Rows, State

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from easydata_sources.shuffling.access import RowAccess

PARQUET_EXTENSIONS = (".parquet", ".pq")

_SLICE_ROWS = 1024
_FINE_SLICES = 20_000  # read singly in front of a damage
_LARGEST_GROUP = 1 << 27  # rows; writers make groups of a million, a larger count is a damaged footer
_FORMAT = ArrowFormat(
    name="Parquet",
    mend="write or download it again: it is damaged, or its writer was interrupted before the footer at the end",
)


@final
class ParquetShardedSource(FileSource):
    """Rows of Parquet files, one shard per file.

    Args:
        data_files: Path, glob, folder or URL, or a list of them.
        storage_options: Arguments for the file system (see `expand_data_files`).
        columns: Columns to read, in this order; None = all. Those that folders name (`lang=en/…`) come last.
        retries: Patience with failing reads of remote files.

    Raises:
        DataFilesNotFoundError: If nothing is there. While reading: `DataFormatError` names file and column.
    """

    def __init__(
        self,
        data_files: DataFilesLike,
        storage_options: Mapping[str, object] | None = None,
        columns: Sequence[str] | None = None,
        *,
        retries: RetryPolicy | None = None,
    ) -> None:
        super().__init__(data_files, storage_options, retries, PARQUET_EXTENSIONS)
        self._columns = None if columns is None else list(columns)
        if columns is not None:
            self.partitions = [
                {name: value for name, value in partition.items() if name in columns} for partition in self.partitions
            ]
        self._ends: dict[int, list[int]] = {}
        self._footers: dict[int, pq.FileMetaData] = {}

    def reading_options(self) -> dict[str, Any]:
        return {"columns": self._columns}

    def read_file(self, shard: int, position: State) -> Iterator[Chunk]:
        row = position["row"]
        with self._open(shard) as (opened, file):
            ends = self._group_ends_of(shard, opened, file)
            for group in range(bisect_right(ends, row), len(ends)):
                start = ends[group - 1] if group else 0
                for run in self._group_runs(shard, opened, file, group):
                    end = start + len(run)
                    if end > row:
                        if isinstance(run, list):
                            yield self.chunk(shard, row, run[row - start :])
                        else:
                            yield from self.columns(shard, row, run.slice(row - start))
                        row = end
                    start = end

    def count_rows(self, shard: int) -> int:
        ends = self._group_ends(shard)
        return ends[-1] if ends else 0

    def hints_after(self, shard: int, row: int) -> State:
        return {}

    def rows_as_listed(self, shard: int) -> int:
        return self.shard_length(shard)

    def forget_contents(self) -> None:
        """Keeps footers: row groups are where they say, damaged or not."""

    def access(self) -> RowAccess:
        return self.block_access(self._group_sizes, self._read_group)

    def _group_sizes(self, shard: int) -> list[int]:
        ends = self._group_ends(shard)
        return [end - start for start, end in zip([0, *ends], ends, strict=False)]

    def _read_group(self, shard: int, group: int) -> Rows:
        with self._open(shard) as (opened, file):
            ends = self._group_ends_of(shard, opened, file)
            first = ends[group - 1] if group else 0
            try:
                names = self._names_in(file)
                batch = table_as_batch(file.read_row_group(group, columns=names))
                if batch.num_rows == ends[group] - first:
                    return self.checked_columns(shard, first, batch if names is None else batch.select(names))
            except damage_errors() as error:
                if isinstance(error, DataFormatError) or opened.damage(error) is None:
                    raise
            # Damaged, or of nested columns that Arrow cannot read in one go.
            runs: list[Rows] = []
            for run in self._group_runs(shard, opened, file, group):
                runs.append(run if isinstance(run, list) else self.checked_columns(shard, first, run))
                first += len(run)
            return concat_rows(runs)

    def _group_runs(self, shard: int, opened: ArrowInput, file: pq.ParquetFile, group: int) -> Iterator[Rows]:
        """Yields the rows of a row group in order; behind a damage bad rows, if those are marked."""
        ends = self._group_ends_of(shard, opened, file)
        first = ends[group - 1] if group else 0
        rows, yielded = ends[group] - first, 0
        try:
            for run in self._slices(file, group, _SLICE_ROWS):
                yield run
                yielded += run.num_rows
            error: Exception = ValueError(f"row group {group} holds {yielded} rows, the footer counts {rows}")
            if yielded == rows:
                return
        except damage_errors() as caught:
            error = caught
        damage = opened.damage(error)
        if damage is None:
            raise error
        # A slice that ends in a damage gives nothing; in smaller ones the rows in front of it are found.
        read = 0
        try:
            for run in self._slices(file, group, max(1, yielded // _FINE_SLICES)):
                read += run.num_rows
                if read > yielded:
                    yield run.slice(run.num_rows - (read - yielded))
                    yielded = read
        except damage_errors() as again:
            if opened.damage(again) is None:
                raise
        damage.row = first + yielded
        if not self.care.marks:
            raise damage from error
        yield [BadRow(damage)] * (rows - yielded)

    def _slices(self, file: pq.ParquetFile, group: int, rows: int) -> Iterator[pa.RecordBatch]:
        names = self._names_in(file)
        for batch in file.iter_batches(rows, row_groups=[group], columns=names):
            yield batch if names is None else batch.select(names)

    def _names_in(self, file: pq.ParquetFile) -> list[str] | None:
        """Returns the columns to read of a file; None = all."""
        if self._columns is None:
            return None
        names = set(file.schema_arrow.names)
        return [name for name in self._columns if name in names]  # others are named by its folders

    def _group_ends(self, shard: int) -> list[int]:
        """Returns the row number after each row group, from the footer."""
        if shard not in self._ends:
            with self._open(shard) as (opened, file):
                self._group_ends_of(shard, opened, file)
        return self._ends[shard]

    def _group_ends_of(self, shard: int, opened: ArrowInput, file: pq.ParquetFile) -> list[int]:
        if shard not in self._ends:
            metadata = file.metadata
            lengths = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
            impossible = next((rows for rows in lengths if not 0 <= rows <= _LARGEST_GROUP), None)
            if impossible is not None:
                error = ValueError(f"a row group of {impossible} rows")
                raise opened.damage(error) or error
            self._ends[shard] = list(accumulate(lengths))
        return self._ends[shard]

    @contextmanager
    def _open(self, shard: int) -> Iterator[tuple[ArrowInput, pq.ParquetFile]]:
        import pyarrow.parquet as pq

        data_file = self.files[shard]
        # The footer of a file with many row groups is large: it is parsed once, not per row group.
        footer = self._footers.get(shard)
        with (
            arrow_input(data_file, _FORMAT, in_ranges=True) as opened,
            pq.ParquetFile(opened.handle, metadata=footer, pre_buffer=data_file.remote) as file,
        ):
            if footer is None:
                self._check_columns(data_file, self.partitions[shard], file)
                self._footers[shard] = file.metadata
            yield opened, file

    def _check_columns(self, data_file: DataFile, partition: Mapping[str, object], file: pq.ParquetFile) -> None:
        names = file.schema_arrow.names
        check_names(data_file, names if self._columns is None else [name for name in names if name in self._columns])
        missing = [column for column in self._columns or () if column not in names and column not in partition]
        if missing:
            raise DataFormatError(
                "A Parquet file lacks a column that was asked for.",
                file=data_file.name,
                column=", ".join(missing),
                found=f"columns {', '.join(names)[:300]}",
                expected=f"columns {', '.join(self._columns or ())}",
                mend="correct columns=…, or leave this file out",
                reason="missing_column",
            )
