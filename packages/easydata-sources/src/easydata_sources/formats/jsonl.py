"""JsonShardedSource: JSON lines, JSON arrays and JSON documents, plain or compressed; rows stay exact dicts.

The position holds the byte offset of the next row besides its number, so plain files of every layout are
resumed by one seek. Compressed files are decompressed again up to there, without parsing. The length of
JSON lines, and blocks for shuffling, come from an index built once per file by looking for line ends, again
without parsing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, final

from easydata_sources.bad_rows.bad_row import BadRow
from easydata_sources.errors import DataFormatError
from easydata_sources.formats.file_source import FileSource, stepped_over
from easydata_sources.formats.json_text import JsonFaultError, parse_json
from easydata_sources.formats.json_values import read_json_values
from easydata_sources.formats.line_index import LineIndex
from easydata_sources.formats.lines import BOM, LineRun, read_line_runs
from easydata_sources.storage.compression import compression_of, open_at, with_compressions
from easydata_sources.storage.files import DataFilesLike
from easydata_sources.storage.retry import RetryPolicy
from easydata_sources.streams import Chunk
from easydata_sources.types import Row, Rows, State

if TYPE_CHECKING:
    from easydata_sources.shuffling.access import RowAccess

Layout = Literal["lines", "array", "documents"]

JSON_EXTENSIONS = with_compressions((".jsonl", ".jsonlines", ".ndjson", ".json"))

_HEAD_BYTES = 1 << 12
_CHUNK_ROWS = 256


@final
class JsonShardedSource(FileSource):
    """Rows of JSON files, one shard per file.

    Each file may hold one object per line (blank lines do not count as rows), one array of objects, or whole
    objects spread over several lines; the beginning of the file tells which. Names ending in `.gz`, `.bz2`, `.xz`,
    `.lzma`, `.zst`, `.zstd` or `.lz4` are decompressed.

    Args:
        data_files: Path, glob, folder or URL, or a list of them.
        storage_options: Arguments for the file system (see `expand_data_files`).
        jsonl: True = files hold JSON lines, False = they hold an array or documents, None = look.
        retries: Patience with failing reads of remote files.

    Raises:
        DataFilesNotFoundError: If nothing is there. While reading: `DataFormatError` names file and row.
    """

    def __init__(
        self,
        data_files: DataFilesLike,
        storage_options: Mapping[str, object] | None = None,
        *,
        jsonl: bool | None = None,
        retries: RetryPolicy | None = None,
    ) -> None:
        super().__init__(data_files, storage_options, retries, JSON_EXTENSIONS)
        self._jsonl = jsonl
        self._layouts: dict[int, Layout] = {}
        self._indices: dict[int, LineIndex] = {}

    def reading_options(self) -> dict[str, Any]:
        return {"jsonl": self._jsonl}

    def read_file(self, shard: int, position: State) -> Iterator[Chunk]:
        if self._layout(shard) == "lines":
            return self._read_lines(shard, position["row"], self._offset(shard, position))
        return self._read_values(shard, position["row"], position.get("offset"))

    def forget_contents(self) -> None:
        self._indices = {}

    def rows_as_listed(self, shard: int) -> None:
        return None

    def count_rows(self, shard: int) -> int:
        if self._layout(shard) == "lines":
            return self._index(shard).rows
        return sum(len(chunk.rows) for chunk in self.read_file(shard, {"row": 0}))

    def hints_after(self, shard: int, row: int) -> State | None:
        if self._layout(shard) != "lines":
            return None
        return {"offset": self._index(shard).offset_after(row)}

    def access(self) -> RowAccess | None:
        plain = all(compression_of(file) is None for file in self.files)
        if not plain or any(self._known_layout(shard) != "lines" for shard in range(self.num_shards())):
            return None
        return self.block_access(lambda shard: [span.rows for span in self._index(shard).spans], self._read_span)

    def _known_layout(self, shard: int) -> Layout:
        try:
            return self.resiliently(shard, lambda: self._layout(shard))
        except FileNotFoundError:
            if not self.care.marks:
                raise
            return "lines"  # one bad row, whatever it was

    def _layout(self, shard: int) -> Layout:
        if shard not in self._layouts:
            self._layouts[shard] = "lines" if self._jsonl else self._look(shard)
        return self._layouts[shard]

    def _look(self, shard: int) -> Layout:
        head = b""
        with open_at(self.files[shard]) as stream:
            while not head.strip() and (block := stream.read(_HEAD_BYTES)):
                head = block.removeprefix(BOM)
        head = head.strip()
        if head.startswith(b"["):
            return "lines" if self._jsonl is None and _has_whole_first_line(head) else "array"
        if self._jsonl is False:
            return "documents"
        first_line = head.split(b"\n", 1)[0].strip()
        # An object that is spread over several lines begins with a line holding little but its brace.
        return "documents" if first_line == b"{" else "lines"

    def _offset(self, shard: int, position: State) -> int:
        """Returns the byte after the line of the row before, without parsing."""
        if "offset" in position:
            return position["offset"]
        return self._index(shard).offset_after(position["row"]) if position["row"] else 0

    def _index(self, shard: int) -> LineIndex:
        if shard not in self._indices:
            self._indices[shard] = LineIndex.scan(self.files[shard], longest=self.care.largest_row_bytes)
        return self._indices[shard]

    def _read_lines(self, shard: int, row: int, offset: int) -> Iterator[Chunk]:
        for run in read_line_runs(self.files[shard], offset, longest=self.care.largest_row_bytes):
            starts = run.starts()
            lines = run.rows(blank_lines_count=False)
            for first in range(0, len(lines), _CHUNK_ROWS):
                part = lines[first : first + _CHUNK_ROWS]
                rows, broken = self._parse(run, part, shard, row)
                if rows:
                    # Right behind the row, not before the next: how the file was cut into runs must not show.
                    offsets = [starts[part[0]], *(starts[index + 1] for index in part)]
                    yield self.chunk(shard, row, rows, lambda consumed, at=offsets: {"offset": at[consumed]})
                if broken is not None:
                    raise broken
                row += len(rows)

    def _parse(self, run: LineRun, lines: list[int], shard: int, row: int) -> tuple[list[Row], DataFormatError | None]:
        """Parses lines, up to the first broken one unless those are marked."""
        rows: list[Row] = []
        starts = run.starts()
        for index in lines:
            line = run.lines[index]
            try:
                size = len(line) if run.too_long is None else run.too_long
                rows.append(self._parse_line(line, size, shard, row + len(rows)))
            except DataFormatError as error:
                error.found = f"{error.found}, in the line that begins at byte {starts[index]}"
                if not self.care.marks:
                    return rows, error
                rows.append(BadRow(error, content=line))
        return rows, None

    def _parse_line(self, line: bytes, size: int, shard: int, row: int) -> Row:
        if size > self.care.largest_row_bytes:
            raise self.too_large(shard, row, size)
        try:
            value = parse_json(line.removeprefix(BOM).decode())
        except UnicodeDecodeError as error:
            what = f"bytes that are not UTF-8 at byte {error.start}"
            raise self._broken(line, shard, row, what, "undecodable") from error
        except JsonFaultError as error:
            where = "" if error.at is None else f" (character {error.at})"
            raise self._broken(line, shard, row, error.found + where, error.reason) from error
        if not isinstance(value, dict):
            raise self._broken(line, shard, row, f"a JSON {type(value).__name__}", "not_an_object")
        return value

    def _broken(self, line: bytes, shard: int, row: int, what: str, reason: str) -> DataFormatError:
        text = line.decode("utf-8", errors="backslashreplace").strip()
        shown = text if len(text) <= 80 else f"{text[:40]} … {text[-40:]}"
        return DataFormatError(
            "A line is not a whole JSON object.",
            file=self.files[shard].name,
            row=row,
            found=f"{what}: {shown!r}",
            expected="one complete JSON object per line",
            mend="complete or delete the line; a file that breaks off at its end was not written to the end",
            reason=reason,
        )

    def _read_values(self, shard: int, row: int, offset: int | None) -> Iterator[Chunk]:
        skip = row if offset is None else 0
        array = self._layout(shard) == "array"
        values = read_json_values(self.files[shard], offset=offset or 0, row=row - skip, array=array, care=self.care)
        begin = stepped_over(values, skip, offset or 0)
        yield from self.gathered(shard, row, begin, values)

    def _read_span(self, shard: int, number: int) -> Rows:
        index = self._index(shard)
        row = index.first_rows[number]
        rows: list[Row] = []
        for run in index.runs(number):
            more, broken = self._parse(run, run.rows(blank_lines_count=False), shard, row + len(rows))
            if broken is not None:
                raise broken
            rows += more
        return rows


def _has_whole_first_line(head: bytes) -> bool:
    """Returns whether the first line is JSON by itself and others follow: then it is a line, though maybe a bad one."""
    line, _, rest = head.partition(b"\n")
    try:
        parse_json(line.decode())
    except (UnicodeDecodeError, JsonFaultError):
        return False
    return bool(rest.strip())
