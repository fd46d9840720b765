"""TextShardedSource: one row per line of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, final

from easydata_sources.bad_rows.bad_row import BadRow
from easydata_sources.errors import DataFormatError
from easydata_sources.formats.file_source import FileSource
from easydata_sources.formats.line_index import LineIndex
from easydata_sources.formats.lines import LineRun, read_line_runs
from easydata_sources.storage.compression import compression_of, with_compressions
from easydata_sources.storage.files import DataFilesLike
from easydata_sources.storage.retry import RetryPolicy
from easydata_sources.streams import Chunk
from easydata_sources.types import Row, Rows, State

if TYPE_CHECKING:
    from easydata_sources.shuffling.access import RowAccess

TEXT_EXTENSIONS = with_compressions((".txt", ".text"))


@final
class TextShardedSource(FileSource):
    """One row per line, blank lines included; resumed by one seek.

    Args:
        data_files: Path, glob, folder or URL, or a list of them.
        storage_options: Arguments for the file system (see `expand_data_files`).
        text_field: Field that holds the line, without its line end.
        retries: Patience with failing reads of remote files.
    """

    def __init__(
        self,
        data_files: DataFilesLike,
        storage_options: Mapping[str, object] | None = None,
        text_field: str = "text",
        *,
        retries: RetryPolicy | None = None,
    ) -> None:
        super().__init__(data_files, storage_options, retries, TEXT_EXTENSIONS)
        self._field = text_field
        self._indices: dict[int, LineIndex] = {}

    def reading_options(self) -> dict[str, Any]:
        return {"text_field": self._field}

    def read_file(self, shard: int, position: State) -> Iterator[Chunk]:
        row = position["row"]
        offset = position.get("offset")
        if offset is None:
            offset = self._index(shard).offset_after(row) if row else 0
        for run in read_line_runs(self.files[shard], offset, longest=self.care.largest_row_bytes):
            rows, broken = self._decode(shard, row, run)
            if rows:
                starts = run.starts()
                yield self.chunk(shard, row, rows, lambda consumed, starts=starts: {"offset": starts[consumed]})
            if broken is not None:
                raise broken
            row += len(rows)

    def forget_contents(self) -> None:
        self._indices = {}

    def rows_as_listed(self, shard: int) -> None:
        return None

    def count_rows(self, shard: int) -> int:
        return self._index(shard).rows

    def hints_after(self, shard: int, row: int) -> State:
        return {"offset": self._index(shard).offset_after(row)}

    def access(self) -> RowAccess | None:
        if any(compression_of(file) is not None for file in self.files):
            return None
        return self.block_access(lambda shard: [span.rows for span in self._index(shard).spans], self._read_span)

    def _index(self, shard: int) -> LineIndex:
        if shard not in self._indices:
            longest = self.care.largest_row_bytes
            self._indices[shard] = LineIndex.scan(self.files[shard], blank_lines_count=True, longest=longest)
        return self._indices[shard]

    def _read_span(self, shard: int, number: int) -> Rows:
        index = self._index(shard)
        rows: list[Row] = []
        for run in index.runs(number):
            more, broken = self._decode(shard, index.first_rows[number] + len(rows), run)
            if broken is not None:
                raise broken
            rows += more
        return rows

    def _decode(self, shard: int, first_row: int, run: LineRun) -> tuple[list[Row], DataFormatError | None]:
        """Decodes lines, up to the first that is no text unless those are marked."""
        rows: list[Row] = []
        for line in run.lines:
            try:
                size = len(line) if run.too_long is None else run.too_long
                rows.append({self._field: self._text(line, size, shard, first_row + len(rows))})
            except DataFormatError as error:
                if not self.care.marks:
                    return rows, error
                rows.append(BadRow(error, content=line))
        return rows, None

    def _text(self, line: bytes, size: int, shard: int, row: int) -> str:
        if size > self.care.largest_row_bytes:
            raise self.too_large(shard, row, size)
        try:
            return line.removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            raise DataFormatError(
                "A line of text is not UTF-8.",
                file=self.files[shard].name,
                row=row,
                found=f"byte {line[error.start]:#04x} at byte {error.start} of the line",
                expected="UTF-8",
                mend="convert the file, e.g.: iconv -f latin1 -t utf8 FILE > NEW",
                reason="undecodable",
            ) from error
