"""One file of rows, written beside its place and renamed when it is whole."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from easydata_sources.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["SHARD_FORMATS", "parse_size", "write_whole"]

_UNITS = {"": 1, "B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}
_PARQUET_GROUP_ROWS = 4096

SHARD_FORMATS: Mapping[str, Callable[[str | None], str]] = {
    "parquet": lambda compression: "parquet",
    "arrow": lambda compression: "arrow",
    "jsonl": lambda compression: "jsonl.gz" if compression == "gzip" else "jsonl",
}
"""Format -> extension of its files, given the compression."""


def parse_size(size: int | str) -> int:
    """Return a number of bytes.

    >>> parse_size("500MB"), parse_size("1.5 GB"), parse_size(1000)
    (524288000, 1610612736, 1000)

    Raises:
        DataError: If it is no positive size.
    """
    text = str(size).strip().upper().replace("IB", "B")
    number = text.rstrip("BKMGT")
    unit = text[len(number) :]
    try:
        count = int(float(number) * _UNITS[unit])
    except (ValueError, KeyError):
        count = 0
    if count < 1:
        raise DataError(f'A size must be a positive number of bytes, or text like "500MB"; found {size!r}.')
    return count


def write_whole(path: Path, batches: Sequence[pa.RecordBatch], format: str, compression: str | None) -> None:
    """Write a file of these rows, whose columns are the union of the batches'.

    Raises:
        DataError: If the format does not know the compression, or the batches hold one column in several types.
        OSError: If it cannot be written; nothing is left at `path` then.
    """
    import pyarrow as pa

    try:
        table = pa.concat_tables([pa.Table.from_batches([batch]) for batch in batches], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(f"Rows of one shard hold a column in several types: {error}.") from error
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        _WRITERS[format](temporary, table, compression)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_parquet(path: Path, table: pa.Table, compression: str | None) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, path, compression=compression or "snappy", row_group_size=_PARQUET_GROUP_ROWS)


def _write_arrow(path: Path, table: pa.Table, compression: str | None) -> None:
    import pyarrow as pa

    if compression not in (None, "zstd", "lz4"):
        raise DataError(f"Arrow files are compressed by 'zstd' or 'lz4'; found {compression!r}.")
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=_PARQUET_GROUP_ROWS)


def _write_jsonl(path: Path, table: pa.Table, compression: str | None) -> None:
    if compression not in (None, "gzip"):
        raise DataError(f"JSON lines are compressed by 'gzip'; found {compression!r}.")
    lines = (json.dumps(_without_nulls(row), ensure_ascii=False) + "\n" for row in table.to_pylist())
    with path.open("wb") as raw:
        # No time stamp inside, so that equal rows are equal bytes.
        sink = gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") if compression else raw
        for line in lines:
            sink.write(line.encode())
        if compression:
            sink.close()


def _without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


_WRITERS: Mapping[str, Callable[[Path, Any, str | None], None]] = {
    "parquet": _write_parquet,
    "arrow": _write_arrow,
    "jsonl": _write_jsonl,
}
