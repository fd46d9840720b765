"""One file of rows, written group by group in any of the three formats."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from easydata_sources.errors import DataError, DataFormatError

from easydata_tokenize.shards.json_lines import LINE

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["check_columns", "check_format", "extension", "write_file"]

_COMPRESSIONS: Mapping[str, tuple[str | None, ...]] = {
    "parquet": (None, "none", "snappy", "gzip", "brotli", "lz4", "zstd"),
    "arrow": (None, "zstd", "lz4"),
    "jsonl": (None, "gzip"),
}


def check_format(format: str, compression: str | None) -> None:
    """Raises if a format, or its compression, is not known.

    Raises:
        DataError: names what is.
    """
    if format not in _COMPRESSIONS:
        raise DataError(f"`format` must be one of {', '.join(_COMPRESSIONS)}; found {format!r}.")
    if compression not in _COMPRESSIONS[format]:
        known = ", ".join(repr(name) for name in _COMPRESSIONS[format])
        raise DataError(f"`compression` of {format} files must be one of {known}; found {compression!r}.")


def extension(format: str, compression: str | None) -> str:
    """Returns the ending of a format's file names.

    >>> extension("parquet", "zstd"), extension("jsonl", "gzip")
    ('parquet', 'jsonl.gz')
    """
    return "jsonl.gz" if (format, compression) == ("jsonl", "gzip") else format


def check_columns(schema: pa.Schema, format: str, compression: str | None, *, where: str) -> None:
    """Raises if a format cannot hold columns of these types, before there is a file of many rows to write.

    Raises:
        DataFormatError: names the column.
    """
    import pyarrow as pa

    if format == "jsonl":
        return
    for field in schema:
        one = pa.schema([field])
        try:
            _WRITERS[format](io.BytesIO(), [one.empty_table()], one, compression)
        except (pa.ArrowException, NotImplementedError) as error:
            others = " or ".join(repr(name) for name in ("arrow", "jsonl") if name != format)
            raise DataFormatError(
                f"A column cannot be written to {format} files.",
                file=where,
                column=field.name,
                found=f"{str(field.type)[:120]} ({error})"[:300],
                expected="dicts with at least one key in some row, and types that the format has",
                mend=f"write format={others}, or leave the column out: .drop_fields([{field.name!r}])",
            ) from error


def write_file(path: Path, groups: Iterable[pa.Table], schema: pa.Schema, format: str, compression: str | None) -> None:
    """Writes a file of these groups of rows, each with the columns of `schema`; holds one group at a time.

    Equal rows in equal groups are equal bytes.
    """
    _WRITERS[format](path, groups, schema, compression)


def _write_parquet(path: Any, groups: Iterable[pa.Table], schema: pa.Schema, compression: str | None) -> None:
    import pyarrow.parquet as pq

    if not schema.names:
        raise DataError(
            "The rows have no fields, and a Parquet file counts no rows that have none: they would be gone when it is "
            "read.\n  mend: format='jsonl' or 'arrow', or add a field"
        )
    with pq.ParquetWriter(path, schema, compression=compression or "snappy") as writer:
        for group in groups:
            writer.write_table(group, row_group_size=max(1, group.num_rows))


def _write_arrow(path: Any, groups: Iterable[pa.Table], schema: pa.Schema, compression: str | None) -> None:
    import pyarrow as pa

    options = pa.ipc.IpcWriteOptions(compression=compression)
    sink: Any = pa.OSFile(str(path), "wb") if isinstance(path, Path) else pa.PythonFile(path, "w")
    with sink, pa.ipc.new_file(sink, schema, options=options) as writer:
        for group in groups:
            for batch in group.combine_chunks().to_batches():
                writer.write_batch(batch)


def _write_jsonl(path: Path, groups: Iterable[pa.Table], schema: pa.Schema, compression: str | None) -> None:
    with path.open("wb") as raw:
        # No time stamp inside, so that equal rows are equal bytes.
        sink: Any = gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") if compression else raw
        for group in groups:
            for line in group.column(LINE).to_pylist():
                sink.write((line + "\n").encode())
        if compression:
            sink.close()


_WRITERS: Mapping[str, Callable[[Any, Iterable[Any], Any, str | None], None]] = {
    "parquet": _write_parquet,
    "arrow": _write_arrow,
    "jsonl": _write_jsonl,
}
