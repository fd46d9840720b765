"""ParquetShardedSource: rows of Parquet files, read by row groups and chosen columns.

Resuming seeks to the row group that holds the next row and decodes on from its beginning; nothing before it
is read. Row groups are decoded in slices, so a group of a million rows never becomes a million dicts at
once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from easydata_sources.bad_row import BadRow
from easydata_sources.chunked import FileSource
from easydata_sources.errors import DataFormatError
from easydata_sources.files import DataFile, DataFilesLike
from easydata_sources.retry import RetryPolicy
from easydata_sources.rows import Row, Rows, table_as_batch
from easydata_sources.source import ShardInfo
from easydata_sources.streams import Chunk, State

if TYPE_CHECKING:
    import pyarrow.parquet as pq

    from easydata_sources.access import RowAccess

PARQUET_EXTENSIONS = (".parquet", ".pq")

_SLICE_ROWS = 1024


class ParquetShardedSource(FileSource):
    """Rows of Parquet files, one shard per file.

    Args:
        data_files: Path, glob, folder or URL, or a list of them.
        storage_options: Arguments for the file system (see `expand_data_files`).
        columns: Columns to read; None = all.
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
        self._ends: dict[int, list[int]] = {}
        self._footers: dict[int, pq.FileMetaData] = {}

    def reading_options(self) -> dict[str, Any]:
        return {"columns": self._columns}

    def read_file(self, shard: int, position: State) -> Iterator[Chunk]:
        import pyarrow as pa

        row = position["row"]
        with self._open(shard) as file:
            ends = self._group_ends_of(shard, file)
            for group in range(bisect_right(ends, row), len(ends)):
                start = ends[group - 1] if group else 0
                try:
                    for batch in file.iter_batches(_SLICE_ROWS, row_groups=[group], columns=self._columns):
                        wanted = batch.slice(max(0, row - start))
                        start += batch.num_rows
                        if wanted.num_rows:
                            yield from self.columns(shard, row, wanted)
                            row += wanted.num_rows
                except (pa.ArrowException, OSError) as error:
                    if not self.care.marks or not _is_damage(error):
                        raise
                    yield self.chunk(shard, row, self._lost(shard, group, error, ends[group] - row))
                    row = ends[group]

    def count_rows(self, shard: int) -> int:
        ends = self._group_ends(shard)
        return ends[-1] if ends else 0

    def hints_after(self, shard: int, row: int) -> State:
        return {}

    def get_shard_info(self, name: str) -> ShardInfo | None:
        info = super().get_shard_info(name)
        return info and replace(info, num_rows=self.shard_length(info.shard_id))

    def access(self) -> RowAccess:
        return self.block_access(self._group_sizes, self._read_group)

    def _group_sizes(self, shard: int) -> list[int]:
        ends = self._group_ends(shard)
        return [end - start for start, end in zip([0, *ends], ends, strict=False)]

    def _read_group(self, shard: int, group: int) -> Rows:
        with self._open(shard) as file:
            batch = table_as_batch(file.read_row_group(group, columns=self._columns))
            ends = self._group_ends_of(shard, file)
        return self.checked_columns(shard, ends[group - 1] if group else 0, batch)

    def _lost(self, shard: int, group: int, error: Exception, rows: int) -> list[Row]:
        fault = _damaged(self.files[shard], error)
        fault.row = self._ends[shard][group] - rows
        return [BadRow(fault)] * rows

    def _group_ends(self, shard: int) -> list[int]:
        """Return the row number after each row group, from the footer."""
        if shard not in self._ends:
            with self._open(shard) as file:
                self._group_ends_of(shard, file)
        return self._ends[shard]

    def _group_ends_of(self, shard: int, file: pq.ParquetFile) -> list[int]:
        if shard not in self._ends:
            metadata = file.metadata
            lengths = (metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
            self._ends[shard] = list(accumulate(lengths))
        return self._ends[shard]

    @contextmanager
    def _open(self, shard: int) -> Iterator[pq.ParquetFile]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        data_file = self.files[shard]
        try:
            # The footer of a file with many row groups is large: it is parsed once, not per row group.
            footer = self._footers.get(shard)
            with (
                data_file.open_for_arrow(in_ranges=True) as handle,
                pq.ParquetFile(handle, metadata=footer, pre_buffer=data_file.remote) as file,
            ):
                if footer is None:
                    self._check_columns(data_file, file)
                    self._footers[shard] = file.metadata
                yield file
        except (pa.ArrowException, OSError) as error:
            if not _is_damage(error):
                raise
            raise _damaged(data_file, error) from error

    def _check_columns(self, data_file: DataFile, file: pq.ParquetFile) -> None:
        names: list[Any] = file.schema_arrow.names
        missing = [column for column in self._columns or () if column not in names]
        if missing:
            raise DataFormatError(
                "A Parquet file lacks a column that was asked for.",
                file=data_file.name,
                column=", ".join(missing),
                found=f"columns {', '.join(names)}",
                expected=f"columns {', '.join(self._columns or ())}",
                mend="correct columns=…, or leave this file out",
                reason="missing_column",
            )


def _is_damage(error: Exception) -> bool:
    """Whether Arrow failed on the bytes it got, rather than on getting them (it uses OSError for both)."""
    if not isinstance(error, OSError):
        return True
    message = str(error).lower()
    damage = any(word in message for word in ("thrift", "parquet", "corrupt", "unexpected end of stream", "page"))
    return type(error) is OSError and error.errno is None and damage


def _damaged(file: DataFile, error: Exception) -> DataFormatError:
    size = file.size()
    return DataFormatError(
        "The file cannot be read as Parquet.",
        file=file.name,
        found="an empty file (0 bytes)" if size == 0 else f"{size} bytes; {error}",
        expected="a Parquet file with its footer at the end",
        mend="write or download it again: a writer that was interrupted leaves a file without a footer",
        reason="damaged_file",
    )
