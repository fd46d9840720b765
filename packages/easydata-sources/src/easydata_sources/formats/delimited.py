"""CsvShardedSource: comma- and tab-separated files with a header line; every value is text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, final

from easydata_sources.bad_rows.bad_row import BadRow
from easydata_sources.errors import DataFormatError
from easydata_sources.formats.column_names import check_names
from easydata_sources.formats.csv_records import CsvRecords
from easydata_sources.formats.file_source import FileSource, stepped_over
from easydata_sources.storage.compression import with_compressions
from easydata_sources.storage.files import DataFile, DataFilesLike
from easydata_sources.storage.retry import RetryPolicy
from easydata_sources.streams import Chunk
from easydata_sources.types import Row, State

CSV_EXTENSIONS = with_compressions((".csv",))
TSV_EXTENSIONS = with_compressions((".tsv",))


@final
class CsvShardedSource(FileSource):
    """Rows of CSV and TSV files, one shard per file, as dicts of text.

    A quoted value may hold line ends. The position holds the byte at which the next row begins, so plain
    files are resumed by one seek (and one look at the header).

    Args:
        data_files: Path, glob, folder or URL, or a list of them.
        storage_options: Arguments for the file system (see `expand_data_files`).
        delimiter: Character between values; None = tab for `.tsv`, comma otherwise.
        retries: Patience with failing reads of remote files.
    """

    def __init__(
        self,
        data_files: DataFilesLike,
        storage_options: Mapping[str, object] | None = None,
        delimiter: str | None = None,
        *,
        retries: RetryPolicy | None = None,
    ) -> None:
        super().__init__(data_files, storage_options, retries, CSV_EXTENSIONS + TSV_EXTENSIONS)
        self._delimiter = delimiter

    def reading_options(self) -> dict[str, Any]:
        return {"delimiter": self._delimiter}

    def read_file(self, shard: int, position: State) -> Iterator[Chunk]:
        offset = position.get("offset")
        header = self._records(shard, 0)
        names = self._header(shard, header)
        if names is None:
            return
        records = header if offset is None else self._records(shard, offset)
        skip = position["row"] if offset is None else 0
        rows = self._rows(shard, position["row"] - skip, names, records)
        begin = stepped_over(rows, skip, records.offset)
        yield from self.gathered(shard, position["row"], begin, rows)

    def hints_after(self, shard: int, row: int) -> None:
        return None

    def forget_contents(self) -> None:
        """Nothing is kept of them."""

    def rows_as_listed(self, shard: int) -> None:
        return None

    def count_rows(self, shard: int) -> int:
        records = self._records(shard, 0)
        if self._header(shard, records) is None:
            return 0
        return sum(1 for _ in iter(records.next_record, None))

    def _records(self, shard: int, offset: int) -> CsvRecords:
        file = self.files[shard]
        return CsvRecords(file, offset, self._delimiter_of(file), self.care.largest_row_bytes)

    def _delimiter_of(self, file: DataFile) -> str:
        if self._delimiter is not None:
            return self._delimiter
        return "\t" if file.filename.endswith(TSV_EXTENSIONS) else ","

    def _header(self, shard: int, records: CsvRecords) -> list[str] | None:
        names = records.next_record()
        check_names(self.files[shard], names or [])
        return names

    def _rows(self, shard: int, row: int, names: list[str], records: CsvRecords) -> Iterator[tuple[Row, int]]:
        """Yields (row, byte behind it) from row number `row` on, which is the next record."""
        while True:
            begin = records.offset
            values = None
            try:
                values = records.next_record()
                if values is None:
                    return
                value = self._row(shard, names, values, records, records.offset - begin)
            except DataFormatError as error:
                error.row = row
                if not self.care.marks or error.reason == "damaged_file":
                    raise
                value = BadRow(error, content=values)
                if error.reason == "broken_csv":
                    records.step_over_break(len(names))
            yield value, records.offset
            row += 1

    def _row(self, shard: int, names: list[str], values: list[str], records: CsvRecords, size: int) -> Row:
        if size > self.care.largest_row_bytes:
            raise records.too_large(size)
        if len(values) == len(names):
            return dict(zip(names, values, strict=True))
        file = self.files[shard]
        raise DataFormatError(
            "A row does not have as many values as the header has names.",
            file=file.name,
            found=f"{len(values)} values: {str(values)[:80]}",
            expected=f"{len(names)}: {', '.join(names)[:200]}",
            mend=f"quote values that hold {self._delimiter_of(file)!r} or line ends, or give delimiter=…",
            reason="wrong_number_of_values",
        )
