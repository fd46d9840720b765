"""The unit of work: a stretch of the source, written as one or more shards, that any process can do or go on with.

Every group of rows is committed as it is made: a part file that holds the rows, and with them the position of the
source behind them. A part appears whole or not at all, so whoever takes the work over after a kill goes on behind the
last part. When a shard is full, its parts become the shard's file; only then is an entry with its checksum written,
and the parts go. Doing any of this twice writes the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from easydata_sources.errors import DataError
from easydata_sources.source import ShardedDataSource
from easydata_sources.streams import RowStream
from easydata_sources.types import State
from numpy.typing import NDArray

from easydata_tokenize.saved.counts import count_afresh, counts_of, reports_of
from easydata_tokenize.saved.folder import LENGTHS, WORK, SetFolder, check_file, checksum
from easydata_tokenize.saved.manifest import WrittenUnit
from easydata_tokenize.saved.owned_files import ForeignFilesError
from easydata_tokenize.shards.columns import joined_schema, retyped, with_columns
from easydata_tokenize.shards.files import check_columns, extension, write_file
from easydata_tokenize.shards.progress import OnCommit, Progress
from easydata_tokenize.shards.row_groups import ShardLimits, read_group, token_lengths

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ShardLayout", "ShardWork"]

_FACTS = b"easydata"
_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardLayout:
    """How shards look.

    Attributes:
        format: `parquet`, `arrow` or `jsonl`.
        compression: of the files; None = the format's own.
        limits: when one is full.
    """

    format: str
    compression: str | None
    limits: ShardLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardWork:
    """One unit of work; picklable if its source is.

    Attributes:
        source: what to write. Rows that are no source cannot be gone on with.
        folder: of the set.
        prefix: of the shards' names.
        numbered: whether there may be several shards, numbered behind the prefix.
        layout: of the shards.
    """

    source: ShardedDataSource | Iterator[Mapping[str, Any]]
    folder: SetFolder
    prefix: str
    numbered: bool
    layout: ShardLayout

    def run(self, on_commit: OnCommit) -> WrittenUnit:
        """Writes the shards that are missing, from the last commit on.

        Args:
            on_commit: is called with every commit.

        Raises:
            DataError: If rows cannot be read.
            OSError: If the folder cannot be written to.
        """
        count_afresh(self.source)
        entries = self._entries()
        after = entries[-1]["after"] if entries else _Position()
        rows: Iterator[Mapping[str, Any]] | None = None
        while not after.ended:
            shard = _OpenShard(self, len(entries), after)
            rows = self._rows(shard.after.state) if rows is None and not shard.after.ended else rows
            if not shard.fill(rows, on_commit):
                break
            entries.append(shard.finish())
            after = entries[-1]["after"]
        counted = counts_of(self.source) if rows is not None else after.counted
        return WrittenUnit(shards=[entry["shard"] for entry in entries], counted=counted)

    def commits(self) -> tuple[int, int]:
        """Returns how many shards and how many parts of the next one are committed: it grows as the work gets on."""
        shards = len(self._entries())
        return shards, len(self.folder.names(f"{self.work_folder}/{shards:05d}"))

    @property
    def work_folder(self) -> str:
        """Where its parts and entries lie, within the folder."""
        return f"{WORK}/{self.prefix}"

    def shard_name(self, number: int) -> str:
        """Returns the name of one of its shards, without the ending."""
        return f"{self.prefix}-{number:05d}" if self.numbered else self.prefix

    def _rows(self, state: State | None) -> Iterator[Mapping[str, Any]]:
        return self.source.rows(state) if isinstance(self.source, ShardedDataSource) else self.source

    def _entries(self) -> list[dict[str, Any]]:
        """Returns the shards that are finished, each with the position behind it."""
        entries = []
        while (content := self.folder.read(f"{self.work_folder}/{len(entries):05d}.json")) is not None:
            try:
                saved = json.loads(content)
                if saved.pop("digest") != _digest(saved):
                    raise ValueError("a digest differs")
                entries.append({"shard": saved["shard"], "after": _Position(**saved["after"])})
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"The unfinished work in {self.folder.address(self.work_folder)} is damaged: {error}.\n"
                    "  mend: begin anew with overwrite=True"
                ) from error
            shard = entries[-1]["shard"]
            for file in (shard, *([shard["lengths"]] if "lengths" in shard else [])):
                check_file(self.folder, file, verify=False)
        return entries


@dataclass(frozen=True, slots=True, kw_only=True)
class _Position:
    """Behind a commit: the source's position, whether it ended there, and what its transforms had counted."""

    state: State | None = None
    ended: bool = False
    counted: list[dict[str, Any]] = field(default_factory=list)


class _OpenShard:
    """The shard in work: its parts."""

    def __init__(self, work: ShardWork, number: int, after: _Position) -> None:
        self._work, self._number = work, number
        self._folder, self._parts_folder = work.folder, f"{work.work_folder}/{number:05d}"
        self._rows = self._size = 0
        self._count = 0  # of parts
        self._schema: pa.Schema | None = None  # of all parts together
        self._lengths: list[NDArray[np.uint32] | None] = []
        self.after = after
        for table in self._parts():
            facts = json.loads((table.schema.metadata or {})[_FACTS])
            rows = table.combine_chunks().to_batches()[0]
            self._add(rows, facts["size"], self._joined_schema(rows))
            self.after = _Position(**facts["after"])
        for name in self._folder.names(self._parts_folder):
            if name >= f"{self._count:05d}":  # behind a part that was torn
                self._folder.remove(f"{self._parts_folder}/{name}")

    def fill(self, rows: Iterator[Mapping[str, Any]] | None, on_commit: OnCommit) -> bool:
        """Commits groups until the shard is full or the rows end; returns whether it holds any."""
        limits, source, lines = self._work.layout.limits, self._work.source, self._work.layout.format == "jsonl"
        while rows is not None and not self.after.ended and not self._full(limits):
            seen = _seen(source)
            group = read_group(
                rows, limits, rows_before=self._rows, bytes_before=self._size, where=self._where, lines=lines
            )
            state = rows.state() if isinstance(rows, RowStream) and not group.ended else None
            self.after = _Position(state=state, ended=group.ended, counted=counts_of(source))
            if group.rows.num_rows:
                self._commit(group.rows)
                read = group.rows.num_rows if seen is None else (_seen(source) or 0) - seen
                on_commit(Progress(source_rows=read, rows=group.rows.num_rows, tokens=_total(self._lengths[-1])))
        return self._count > 0

    def finish(self) -> dict[str, Any]:
        """Makes the shard's file of the parts, enters it, and removes them."""
        name, layout = self._work.shard_name(self._number), self._work.layout
        schema = self._schema
        assert schema is not None
        tables = (with_columns(table, schema, where=self._where) for table in self._parts())
        file = f"{name}.{extension(layout.format, layout.compression)}"
        shard: dict[str, Any] = {"file": file, "rows": self._rows, "tokens": sum(map(_total, self._lengths))}
        known = [lengths for lengths in self._lengths if lengths is not None]
        has_lengths = len(known) == len(self._lengths)
        self._claim([file, *([f"{LENGTHS}/{name}.npy"] if has_lengths else [])])
        shard |= self._write(file, lambda path: write_file(path, tables, schema, layout.format, layout.compression))
        if has_lengths:
            file = f"{LENGTHS}/{name}.npy"
            shard["lengths"] = {
                "file": file,
                **self._write(file, lambda path: _save_array(path, np.concatenate(known))),
            }
        entry = {"shard": shard, "after": _plain(self.after)}
        self._folder.write(f"{self._parts_folder}.json", _json({**entry, "digest": _digest(entry)}))
        for number in range(self._count):
            self._folder.remove(self._part_name(number))
        self._folder.prune(self._parts_folder)
        return {"shard": shard, "after": self.after}

    def _claim(self, files: list[str]) -> None:
        """Notes which files are about to be written, so that nobody's are written over, and ours can be told later."""
        note = f"{self._parts_folder}.names"
        if self._folder.size(note) is not None:
            return
        for file in files:
            if self._folder.size(file) is not None:
                raise ForeignFilesError(
                    f"{self._folder.address(file)} is there already, and no set of this writer lists it.\n"
                    "  mend: move it away; what is written so far stays, and the next run goes on behind it"
                )
        self._folder.write(note, _json({"files": files}))

    @property
    def _where(self) -> str:
        return f"{self._work.shard_name(self._number)} of {self._folder}"

    def _full(self, limits: ShardLimits) -> bool:
        return self._size >= limits.max_bytes or (limits.max_rows is not None and self._rows >= limits.max_rows)

    def _commit(self, rows: pa.RecordBatch) -> None:
        import pyarrow as pa

        schema = self._joined_schema(rows)
        note = {_FACTS: _json({"size": rows.nbytes, "after": _plain(self.after)})}
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, rows.schema.with_metadata(note), options=options) as writer:
            writer.write_batch(rows.replace_schema_metadata(note))
        content = sink.getvalue()
        # The digest makes up for not waiting for the disk, which would cost more than all the rest of a group.
        with self._folder.writing(self._part_name(self._count), synced=False) as path, path.open("wb") as file:
            file.write(content)
            file.write(hashlib.sha256(content).digest())
        self._add(rows, rows.nbytes, schema)

    def _joined_schema(self, rows: pa.RecordBatch) -> pa.Schema:
        """Returns the columns of the shard with these rows in it, whose files can hold them all.

        Raises:
            DataFormatError: If a column would hold several types, or one that the format has not.
        """
        new, layout = rows.schema.remove_metadata(), self._work.layout
        if self._schema is None or new == self._schema:
            joined = new
        else:
            joined = joined_schema(self._schema, new, where=self._where)
            if retyped(self._schema, joined):
                for table in self._parts():
                    with_columns(table, joined, where=self._where)
            if retyped(new, joined):
                with_columns(rows, joined, where=self._where)
        if joined != self._schema:
            check_columns(joined, layout.format, layout.compression, where=self._where)
        return joined

    def _add(self, rows: pa.RecordBatch, size: int, schema: pa.Schema) -> None:
        self._rows, self._size = self._rows + rows.num_rows, self._size + size
        self._count, self._schema = self._count + 1, schema
        self._lengths.append(token_lengths(rows))

    def _parts(self) -> Iterator[pa.Table]:
        """Yields the rows of every part, one part at a time."""
        import pyarrow as pa

        number = 0
        while (content := self._folder.read(self._part_name(number))) is not None:
            rows = memoryview(content)[:-_DIGEST_BYTES]
            if hashlib.sha256(rows).digest() != content[-_DIGEST_BYTES:]:
                return
            with pa.ipc.open_file(pa.py_buffer(rows)) as reader:
                yield reader.read_all()
            number += 1

    def _part_name(self, number: int) -> str:
        return f"{self._parts_folder}/{number:05d}.part"

    def _write(self, name: str, write: Callable[[Path], None]) -> dict[str, Any]:
        with self._folder.writing(name) as path:
            write(path)
            with path.open("rb") as file:
                digest = checksum(file)
            return {"bytes": path.stat().st_size, "sha256": digest}


def _save_array(path: Path, values: Any) -> None:
    with path.open("wb") as file:
        np.save(file, values, allow_pickle=False)


def _seen(source: Any) -> int | None:
    """Source rows that the first of its transforms has seen; None if none counts."""
    return next((report.rows for report in reports_of(source)), None)


def _total(lengths: NDArray[np.uint32] | None) -> int:
    return 0 if lengths is None else int(lengths.sum(dtype=np.int64))


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _digest(entry: Mapping[str, Any]) -> str:
    return hashlib.sha256(_json(entry)).hexdigest()


def _plain(position: _Position) -> dict[str, Any]:
    return {"state": position.state, "ended": position.ended, "counted": position.counted}
