"""CsvShardedSource: comma- and tab-separated files with a header line; every value is text."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from typing import Any

from easydata_sources.bad_row import BadRow
from easydata_sources.chunked import FileSource
from easydata_sources.compression import with_compressions
from easydata_sources.errors import DataFormatError
from easydata_sources.files import DataFile, DataFilesLike
from easydata_sources.lines import read_line_runs
from easydata_sources.retry import RetryPolicy
from easydata_sources.rows import Row
from easydata_sources.streams import Chunk, State

CSV_EXTENSIONS = with_compressions((".csv",))
TSV_EXTENSIONS = with_compressions((".tsv",))

_CHUNK_ROWS = 256


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
        file = self.files[shard]
        header = _Records(file, 0, self._delimiter_of(file))
        names = next(header, None)
        if names is None:
            return
        offset = position.get("offset")
        skip = position["row"] if offset is None else 0
        records = header if offset is None else _Records(file, offset, self._delimiter_of(file))
        row = position["row"] - skip
        first, rows, offsets = row + skip, [], [records.offset]
        while (values := self._next(records, row)) is not None:
            row += 1
            if row <= position["row"] and offset is None:
                offsets = [records.offset]
                continue
            try:
                rows.append(self._row(shard, row - 1, names, values, records.offset - offsets[-1]))
            except DataFormatError as error:
                if not self.care.marks:
                    if rows:
                        yield self.chunk(shard, first, rows, lambda given, at=offsets: {"offset": at[given]})
                    raise
                rows.append(BadRow(error, content=values))
            offsets.append(records.offset)
            if len(rows) == _CHUNK_ROWS:
                yield self.chunk(shard, first, rows, lambda given, at=offsets: {"offset": at[given]})
                first, rows, offsets = row, [], [records.offset]
        if rows:
            yield self.chunk(shard, first, rows, lambda given, at=offsets: {"offset": at[given]})

    def count_rows(self, shard: int) -> int:
        file = self.files[shard]
        return max(0, sum(1 for _ in _Records(file, 0, self._delimiter_of(file))) - 1)

    def _delimiter_of(self, file: DataFile) -> str:
        if self._delimiter is not None:
            return self._delimiter
        return "\t" if file.url.lower().endswith(TSV_EXTENSIONS) else ","

    def _next(self, records: _Records, row: int) -> list[str] | BadRow | None:
        """Return the next values, a mark in place of ones that cannot be read, or None at the end."""
        try:
            return next(records, None)
        except DataFormatError as error:
            error.row = row
            if not self.care.marks or error.reason == "damaged_file":
                raise
            return BadRow(error)

    def _row(self, shard: int, row: int, names: list[str], values: list[str] | BadRow, size: int) -> Row:
        if isinstance(values, BadRow):
            return values
        file = self.files[shard]
        if size > self.care.largest_row_bytes:
            raise self.too_large(shard, row, size)
        if len(values) != len(names):
            raise DataFormatError(
                "A row does not have as many values as the header has names.",
                file=file.name,
                row=row,
                found=f"{len(values)} values: {str(values)[:80]}",
                expected=f"{len(names)}: {', '.join(names)}",
                mend=f"quote values that hold {self._delimiter_of(file)!r} or line ends, or give delimiter=…",
                reason="wrong_number_of_values",
            )
        return dict(zip(names, values, strict=True))


class _Records:
    """Lists of values, and the byte after the last one returned; blank lines are left out."""

    def __init__(self, file: DataFile, offset: int, delimiter: str) -> None:
        self.offset = offset
        self._file = file
        self._undecodable: str | None = None  # in the lines of the record being read
        self._records = csv.reader(self._lines(), delimiter=delimiter, strict=True)

    def __iter__(self) -> Iterator[list[str]]:
        return self

    def __next__(self) -> list[str]:
        try:
            for values in self._records:
                if self._undecodable is not None:
                    what, self._undecodable = self._undecodable, None
                    raise self._broken(what, "undecodable")
                if values:
                    return values
        except csv.Error as error:
            raise self._broken(str(error), "broken_csv") from error
        raise StopIteration

    def _lines(self) -> Iterator[str]:
        for run in read_line_runs(self._file, self.offset):
            for line in run.lines:
                encoding = "utf-8-sig" if self.offset == 0 else "utf-8"
                self.offset += len(line) + 1
                try:
                    yield line.decode(encoding) + "\n"
                except UnicodeDecodeError as error:
                    self._undecodable = f"bytes that are not UTF-8 ({error.reason})"
                    # The record's end is found all the same, so that the rows after it can be read.
                    yield line.decode(encoding, errors="surrogateescape") + "\n"

    def _broken(self, found: str, reason: str) -> DataFormatError:
        return DataFormatError(
            "The file cannot be read as delimited text.",
            file=self._file.name,
            found=f"{found}, before byte {self.offset}",
            expected="UTF-8 text in which quotes are closed and doubled inside values",
            mend="look for an unclosed quote, or give the right delimiter=…",
            reason=reason,
        )
