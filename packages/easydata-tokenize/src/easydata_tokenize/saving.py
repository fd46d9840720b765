"""Rows written to disk as a set of shards: whole or not at all, counted, and continued where a kill left it.

A set is a folder of `shard-00000.parquet` … and `_manifest.json`. Each shard is written beside its place and renamed
when it is whole; then the manifest takes it in, with its checksum and the position of the source behind it. A run that
was killed goes on behind the last shard in the manifest and writes the same bytes as one that was not. A set that is
complete is left alone, and one of another source, transform or option is refused, naming what differs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from easydata_sources.convert import as_sharded_source
from easydata_sources.errors import DataError
from easydata_sources.parquet import ParquetShardedSource
from easydata_sources.source import ShardedDataSource
from easydata_sources.streams import RowStream

from easydata_tokenize.shard_files import SHARD_FORMATS, parse_size, write_whole
from easydata_tokenize.shard_runs import ShardLimits, next_shard

__all__ = ["IncompleteSetError", "SavedSetDiffersError", "WriteStats", "open_saved", "save_dataset", "save_iterator"]

MANIFEST = "_manifest.json"


class SavedSetDiffersError(DataError):
    """A folder holds a set that was made of something else."""


class IncompleteSetError(DataError):
    """A set is not whole, or a file of it is not what was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteStats:
    """What a set holds.

    Attributes:
        num_examples: rows.
        num_shards: files.
        num_tokens: tokens in `input_ids`, or in all columns that end in `_ids`; 0 where there are none.
        total_bytes: size of the files.
        output_paths: the files, in order.
    """

    num_examples: int
    num_shards: int
    num_tokens: int
    total_bytes: int
    output_paths: tuple[str, ...]


def save_dataset(  # noqa: PLR0917 - positions that users of such functions know
    source: Any,
    output_path: str | Path,
    format: str = "parquet",
    max_shard_size: int | str = "500MB",
    num_shards: int | None = None,
    compression: str | None = None,
    *,
    identity: Mapping[str, Any] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> WriteStats:
    """Write the rows of a source; run again after a kill, it goes on; finished, it does nothing.

    Args:
        source: Whatever `as_sharded_source` takes.
        output_path: Folder to write; made if absent.
        format: `parquet`, `arrow` or `jsonl`.
        max_shard_size: Largest shard in memory, in bytes or as in "500MB" (units of 1024).
        num_shards: Write so many shards of equal rows instead; needs a source of known length.
        compression: Parquet: a codec of Arrow, "snappy" unless given; jsonl: "gzip"; arrow: "zstd" or "lz4".
        identity: What else the rows depend on, such as a tokenizer's fingerprint; compared when the set is continued.
        storage_options: Arguments of the file system, if `source` is a path.
        overwrite: Begin anew, whatever the folder holds.

    Raises:
        SavedSetDiffersError: If the folder holds a set of other rows.
        DataError: If an argument is out of range, or the folder cannot be written to.
    """
    rows = as_sharded_source(source, storage_options=storage_options)
    limits = ShardLimits(max_bytes=parse_size(max_shard_size), max_rows=_rows_per_shard(rows, num_shards))
    described = {"source": _described(rows), "format": format, "compression": compression, **asdict(limits)}
    described |= dict(identity or {})
    writer = _SetWriter(Path(output_path), format, compression, _plain(described), overwrite=overwrite)
    if not writer.complete:
        writer.write_all(rows.rows(writer.state), limits)
    return writer.stats()


def save_iterator(
    iterator: Iterable[Mapping[str, Any]],
    output_path: str | Path,
    format: str = "parquet",
    max_shard_size: int | str = "500MB",
    compression: str | None = None,
    *,
    overwrite: bool = False,
) -> WriteStats:
    """Write rows that come from anywhere, to the end of the iterator.

    An iterator cannot be begun again at a row, so a set that a kill left incomplete is written anew. Give
    `save_dataset` the source instead where there is one.

    Args:
        iterator: Rows.
        output_path: Folder to write; made if absent.
        format: `parquet`, `arrow` or `jsonl`.
        max_shard_size: Largest shard in memory, in bytes or as in "500MB" (units of 1024).
        compression: As of `save_dataset`.
        overwrite: Replace a complete set that the folder holds.

    Raises:
        SavedSetDiffersError: If the folder holds a complete set and `overwrite` is not asked for.
        DataError: If an argument is out of range, or the folder cannot be written to.
    """
    folder = Path(output_path)
    manifest = _read_manifest(folder)
    if manifest is not None and manifest["complete"] and not overwrite:
        raise SavedSetDiffersError(
            f"{folder} holds a complete set of {manifest['rows']} rows, and an iterator cannot be compared with it.\n"
            "  mend: another output_path, or overwrite=True"
        )
    limits = ShardLimits(max_bytes=parse_size(max_shard_size), max_rows=None)
    described = {"source": "an iterator", "format": format, "compression": compression, **asdict(limits)}
    writer = _SetWriter(folder, format, compression, described, overwrite=True)
    writer.write_all(iter(iterator), limits)
    return writer.stats()


def open_saved(path: str | Path, *, verify: bool = False) -> ShardedDataSource:
    """Open a set that `save_dataset`, `save_iterator` or `tokenize_and_save` wrote.

    Args:
        path: Its folder.
        verify: Whether to read every file and compare its checksum.

    Raises:
        IncompleteSetError: If the set is not whole, or a file is missing or not what was written.
    """
    folder = Path(path)
    manifest = _read_manifest(folder)
    if manifest is None or not manifest["complete"]:
        found = "no manifest" if manifest is None else f"{manifest['rows']} rows so far"
        raise IncompleteSetError(f"{folder} holds no complete set ({found}).\n  mend: run again what writes it")
    for shard in manifest["shards"]:
        file = folder / shard["file"]
        if not file.exists() or file.stat().st_size != shard["bytes"]:
            raise IncompleteSetError(f"{file} is missing, or not of the {shard['bytes']} bytes that were written.")
        if verify and _checksum(file) != shard["sha256"]:
            raise IncompleteSetError(f"{file} is not what was written: its checksum differs from the manifest's.")
    files = [str(folder / shard["file"]) for shard in manifest["shards"]]
    return ParquetShardedSource(files) if manifest["identity"]["format"] == "parquet" else as_sharded_source(files)


class _SetWriter:
    """A folder of shards and its manifest."""

    def __init__(
        self, folder: Path, format: str, compression: str | None, identity: dict[str, Any], *, overwrite: bool
    ) -> None:
        if format not in SHARD_FORMATS:
            raise DataError(f"`format` must be one of {', '.join(SHARD_FORMATS)}; found {format!r}.")
        self._folder, self._format, self._compression = folder, format, compression
        found = None if overwrite else _read_manifest(folder)
        if found is not None:
            _refuse_other(found["identity"], identity, folder)
        self._manifest = found or {"version": 1, "identity": identity, "complete": False, "rows": 0, "shards": []}
        _making(folder, partial(folder.mkdir, parents=True, exist_ok=True))
        if found is None:
            self._forget_files()

    @property
    def complete(self) -> bool:
        return self._manifest["complete"]

    @property
    def state(self) -> dict[str, Any] | None:
        """Position of the source behind the last whole shard."""
        shards = self._manifest["shards"]
        return shards[-1]["state"] if shards else None

    def write_all(self, rows: Iterator[Mapping[str, Any]], limits: ShardLimits) -> None:
        """Write shards until the rows end, then say that the set is complete."""
        while (shard := next_shard(rows, limits, where=str(self._folder))) is not None:
            name = f"shard-{len(self._manifest['shards']):05d}.{SHARD_FORMATS[self._format](self._compression)}"
            file = self._folder / name
            _making(self._folder, partial(write_whole, file, shard.batches, self._format, self._compression))
            entry = {"file": name, "rows": shard.rows, "tokens": shard.tokens, "bytes": file.stat().st_size}
            entry |= {"sha256": _checksum(file), "state": rows.state() if isinstance(rows, RowStream) else None}
            self._manifest["shards"].append(entry)
            self._manifest["rows"] += shard.rows
            self._write_manifest()
        self._manifest["complete"] = True
        self._write_manifest()

    def stats(self) -> WriteStats:
        shards = self._manifest["shards"]
        return WriteStats(
            num_examples=self._manifest["rows"],
            num_shards=len(shards),
            num_tokens=sum(shard["tokens"] for shard in shards),
            total_bytes=sum(shard["bytes"] for shard in shards),
            output_paths=tuple(str(self._folder / shard["file"]) for shard in shards),
        )

    def _write_manifest(self) -> None:
        path = self._folder / MANIFEST
        temporary = path.with_suffix(".tmp")
        text = json.dumps(self._manifest, indent=1) + "\n"
        _making(self._folder, partial(temporary.write_text, text, encoding="utf-8"))
        temporary.replace(path)

    def _forget_files(self) -> None:
        """Remove what an earlier set left, so that nothing of it is ever read as part of this one."""
        for path in [self._folder / MANIFEST, *self._folder.glob("shard-*"), *self._folder.glob(".shard-*")]:
            path.unlink(missing_ok=True)


def _making(folder: Path, action: Any) -> None:
    try:
        action()
    except OSError as error:
        raise DataError(
            f"The folder {folder} cannot be written to: {error}.\n"
            "  mend: make room or choose another output_path; what is whole stays, and the next run goes on behind it"
        ) from error


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    path = folder / MANIFEST
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _refuse_other(found: Mapping[str, Any], expected: Mapping[str, Any], folder: Path) -> None:
    names = sorted(found.keys() | expected.keys())
    differing = [name for name in names if found.get(name) != expected.get(name)]
    if differing:
        lines = [f"  {name}: {found.get(name)!r} then, {expected.get(name)!r} now" for name in differing]
        raise SavedSetDiffersError(
            f"{folder} holds a set that was made of something else:\n"
            + "\n".join(lines)
            + "\n  mend: another output_path, or overwrite=True"
        )


def _rows_per_shard(source: ShardedDataSource, num_shards: int | None) -> int | None:
    if num_shards is None:
        return None
    if num_shards < 1:
        raise DataError(f"`num_shards` must be at least 1; found {num_shards}.")
    return max(1, -(-len(source) // num_shards))


def _described(source: ShardedDataSource) -> list[Any]:
    """What of a source can be compared without reading it: its shards with their sizes or rows."""
    infos = [(name, source.get_shard_info(name)) for name in source.shard_names]
    return [[name, info and info.num_rows, info and info.byte_size] for name, info in infos]


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
