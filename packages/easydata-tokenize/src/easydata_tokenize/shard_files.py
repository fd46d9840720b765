"""One file of rows, written group by group in any of the three formats."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from easydata_sources.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["check_format", "extension", "write_file"]

_COMPRESSIONS: Mapping[str, tuple[str | None, ...]] = {
    "parquet": (None, "none", "snappy", "gzip", "brotli", "lz4", "zstd"),
    "arrow": (None, "zstd", "lz4"),
    "jsonl": (None, "gzip"),
}


def check_format(format: str, compression: str | None) -> None:
    """Raise if a format, or its compression, is not known.

    Raises:
        DataError: names what is.
    """
    if format not in _COMPRESSIONS:
        raise DataError(f"`format` must be one of {', '.join(_COMPRESSIONS)}; found {format!r}.")
    if compression not in _COMPRESSIONS[format]:
        known = ", ".join(repr(name) for name in _COMPRESSIONS[format])
        raise DataError(f"`compression` of {format} files must be one of {known}; found {compression!r}.")


def extension(format: str, compression: str | None) -> str:
    """Return the ending of a format's file names.

    >>> extension("parquet", "zstd"), extension("jsonl", "gzip")
    ('parquet', 'jsonl.gz')
    """
    return "jsonl.gz" if (format, compression) == ("jsonl", "gzip") else format


def write_file(path: Path, groups: Iterable[pa.Table], schema: pa.Schema, format: str, compression: str | None) -> None:
    """Write a file of these groups of rows, each with the columns of `schema`; holds one group at a time.

    Equal rows in equal groups are equal bytes.
    """
    _WRITERS[format](path, groups, schema, compression)


def _write_parquet(path: Path, groups: Iterable[pa.Table], schema: pa.Schema, compression: str | None) -> None:
    import pyarrow.parquet as pq

    if not schema.names:
        raise DataError(
            "The rows have no fields, and a Parquet file counts no rows that have none: they would be gone when it is "
            "read.\n  mend: format='jsonl' or 'arrow', or add a field"
        )
    with pq.ParquetWriter(path, schema, compression=compression or "snappy") as writer:
        for group in groups:
            writer.write_table(group, row_group_size=max(1, group.num_rows))


def _write_arrow(path: Path, groups: Iterable[pa.Table], schema: pa.Schema, compression: str | None) -> None:
    import pyarrow as pa

    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema, options=options) as writer:
        for group in groups:
            for batch in group.combine_chunks().to_batches():
                writer.write_batch(batch)


def _write_jsonl(path: Path, groups: Iterable[pa.Table], schema: pa.Schema, compression: str | None) -> None:
    with path.open("wb") as raw:
        # No time stamp inside, so that equal rows are equal bytes.
        sink: Any = gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") if compression else raw
        for group in groups:
            for row in group.to_pylist():
                sink.write((json.dumps(_without_nulls(row), ensure_ascii=False) + "\n").encode())
        if compression:
            sink.close()


def _without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


_WRITERS: Mapping[str, Callable[[Path, Iterable[Any], Any, str | None], None]] = {
    "parquet": _write_parquet,
    "arrow": _write_arrow,
    "jsonl": _write_jsonl,
}
