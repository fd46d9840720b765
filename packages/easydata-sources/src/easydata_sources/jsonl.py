"""JsonShardedSource: JSON lines, JSON arrays and JSON documents, plain or compressed; rows stay exact dicts.

The position holds the byte offset of the next row besides its number, so plain files of every layout are
resumed by one seek. Compressed files are decompressed again up to there, without parsing. The length of
JSON lines, and blocks for shuffling, come from an index built once per file by looking for line ends, again
without parsing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from easydata_sources.bad_row import BadRow
from easydata_sources.chunked import FileSource
from easydata_sources.compression import compression_of, open_at, read_block, with_compressions
from easydata_sources.errors import DataFormatError
from easydata_sources.files import DataFilesLike
from easydata_sources.json_values import read_json_values
from easydata_sources.line_index import LineIndex
from easydata_sources.lines import LineRun, read_line_runs
from easydata_sources.retry import RetryPolicy
from easydata_sources.rows import Row, Rows
from easydata_sources.streams import Chunk, State

if TYPE_CHECKING:
    from easydata_sources.access import RowAccess

Layout = Literal["lines", "array", "documents"]

JSON_EXTENSIONS = with_compressions((".jsonl", ".ndjson", ".json"))

_BOM = b"\xef\xbb\xbf"
_HEAD_BYTES = 1 << 12
_CHUNK_ROWS = 256


class JsonShardedSource(FileSource):
    """Rows of JSON files, one shard per file.

    Each file may hold one object per line (blank lines do not count as rows), one array of objects, or whole
    objects spread over several lines; the beginning of the file tells which. Names ending in `.gz` or
    `.zst` are decompressed.

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
        file = self.files[shard]
        head = b""
        with open_at(file) as stream:
            while not head.strip() and (block := read_block(stream, file, _HEAD_BYTES)):
                head = block.removeprefix(_BOM)
        head = head.strip()
        if head.startswith(b"["):
            return "lines" if self._jsonl is None and _has_whole_first_line(head) else "array"
        if self._jsonl is False:
            return "documents"
        first_line = head.split(b"\n", 1)[0].strip()
        # An object that is spread over several lines begins with a line holding little but its brace.
        return "documents" if first_line == b"{" else "lines"

    def _offset(self, shard: int, position: State) -> int:
        """Return the byte after the line of the row before, without parsing."""
        if "offset" in position:
            return position["offset"]
        return self._index(shard).offset_after(position["row"]) if position["row"] else 0

    def _index(self, shard: int) -> LineIndex:
        if shard not in self._indices:
            self._indices[shard] = LineIndex.scan(self.files[shard])
        return self._indices[shard]

    def _read_lines(self, shard: int, row: int, offset: int) -> Iterator[Chunk]:
        for run in read_line_runs(self.files[shard], offset):
            starts = run.starts()
            lines = [index for index, line in enumerate(run.lines) if line and not line.isspace()]
            for first in range(0, len(lines), _CHUNK_ROWS):
                part = lines[first : first + _CHUNK_ROWS]
                rows, broken = self._parse(run, part, shard, row)
                if rows:
                    # Right behind the row, not before the next: how the file was cut into runs must not show.
                    offsets = [starts[part[0]], *(starts[index + 1] for index in part)]
                    yield self.chunk(shard, row, rows, lambda given, at=offsets: {"offset": at[given]})
                if broken is not None:
                    raise broken
                row += len(rows)

    def _parse(self, run: LineRun, lines: list[int], shard: int, row: int) -> tuple[Rows, DataFormatError | None]:
        """Parse lines, up to the first broken one unless those are marked."""
        rows: list[Row] = []
        for index in lines:
            line = run.lines[index]
            try:
                rows.append(self._parse_line(line, shard, row + len(rows)))
            except DataFormatError as error:
                error.found = f"{error.found}, in the line that begins at byte {run.starts()[index]}"
                if not self.care.marks:
                    return rows, error
                rows.append(BadRow(error, content=line))
        return rows, None

    def _parse_line(self, line: bytes, shard: int, row: int) -> Row:
        if len(line) > self.care.largest_row_bytes:
            raise self.too_large(shard, row, len(line))
        try:
            value = json.loads(line.removeprefix(_BOM))
        except json.JSONDecodeError as error:
            raise self._broken(line, shard, row, f"{error.msg} (character {error.pos})", "broken_json") from error
        except UnicodeDecodeError as error:
            what = f"bytes that are not UTF-8 at byte {error.start}"
            raise self._broken(line, shard, row, what, "undecodable") from error
        except RecursionError as error:
            raise self._broken(line, shard, row, "brackets nested without end", "broken_json") from error
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
        file, array = self.files[shard], self._layout(shard) == "array"
        skip = row if offset is None else 0
        first, rows, offsets = row, [], [offset or 0]
        values = read_json_values(file, offset=offset or 0, row=row - skip, array=array, care=self.care)
        for value, end in values:
            if skip:
                skip, offsets = skip - 1, [end]
                continue
            size = end - offsets[-1]
            if size > self.care.largest_row_bytes and not isinstance(value, BadRow):
                error = self.too_large(shard, first + len(rows), size)
                if not self.care.marks:
                    if rows:
                        yield self._value_chunk(shard, first, rows, offsets)
                    raise error
                rows.append(BadRow(error))
            else:
                rows.append(value)
            offsets.append(end)
            if len(rows) == _CHUNK_ROWS:
                yield self._value_chunk(shard, first, rows, offsets)
                first, rows, offsets = first + len(rows), [], [end]
        if rows:
            yield self._value_chunk(shard, first, rows, offsets)

    def _value_chunk(self, shard: int, first: int, rows: list[Row], offsets: list[int]) -> Chunk:
        return self.chunk(shard, first, rows, lambda given: {"offset": offsets[given]})

    def _read_span(self, shard: int, number: int) -> Rows:
        index = self._index(shard)
        span = index.spans[number]
        with open_at(self.files[shard], span.offset) as stream:
            data = stream.read(span.bytes)
        run = LineRun(span.offset, data.split(b"\n"))
        lines = [place for place, line in enumerate(run.lines) if line and not line.isspace()]
        rows, broken = self._parse(run, lines, shard, index.first_rows[number])
        if broken is not None:
            raise broken
        return rows


def _has_whole_first_line(head: bytes) -> bool:
    """Whether the first line is JSON by itself and others follow: then it is a line, though maybe a bad one."""
    line, _, rest = head.partition(b"\n")
    try:
        json.loads(line)
    except ValueError:
        return False
    return bool(rest.strip())
