"""Which format a file has: the end of its name says it. A new format is a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from easydata_sources.errors import DataError
from easydata_sources.formats.arrow import ARROW_EXTENSIONS, ArrowShardedSource
from easydata_sources.formats.delimited import CSV_EXTENSIONS, TSV_EXTENSIONS, CsvShardedSource
from easydata_sources.formats.jsonl import JSON_EXTENSIONS, JsonShardedSource
from easydata_sources.formats.parquet import PARQUET_EXTENSIONS, ParquetShardedSource
from easydata_sources.formats.text import TEXT_EXTENSIONS, TextShardedSource
from easydata_sources.source import ShardedDataSource
from easydata_sources.storage.files import DataFile, expand_data_files

__all__ = ["source_of_files"]

_FORMATS: Mapping[tuple[str, ...], Callable[..., ShardedDataSource]] = {
    PARQUET_EXTENSIONS: ParquetShardedSource,
    JSON_EXTENSIONS: JsonShardedSource,
    ARROW_EXTENSIONS: ArrowShardedSource,
    CSV_EXTENSIONS + TSV_EXTENSIONS: CsvShardedSource,
    TEXT_EXTENSIONS: TextShardedSource,
}


def source_of_files(paths: str | list[str], storage_options: Mapping[str, Any] | None) -> ShardedDataSource:
    """Returns files as a source of the one format that their names say.

    Args:
        paths: A path, glob, folder or URL, or several.
        storage_options: Arguments for the file system.

    Raises:
        DataError: If files are missing, or of no or several formats; names them and the line that mends it.
    """
    extensions = tuple(extension for known in _FORMATS for extension in known)
    files = expand_data_files(paths, storage_options=storage_options, extensions=extensions)
    groups: dict[tuple[str, ...], list[DataFile]] = {}
    for file in files:
        groups.setdefault(_extensions_of(file), []).append(file)
    if len(groups) > 1:
        kinds = "; ".join(f"{len(group)} of {known[0]} ({group[0].url})" for known, group in groups.items())
        raise DataError(
            f"{paths!r} names files of several formats: {kinds}.\n"
            "  mend: name one format, e.g. 'folder/*.parquet', or join sources with CompositeShardedSource"
        )
    known, group = next(iter(groups.items()))
    return _FORMATS[known]([file.url for file in group], storage_options)


def _extensions_of(file: DataFile) -> tuple[str, ...]:
    for extensions in _FORMATS:
        if file.filename.endswith(extensions):
            return extensions
    known = ", ".join(extension for extensions in _FORMATS for extension in extensions if extension.count(".") == 1)
    raise DataError(
        f"The format of {file.url!r} is not clear from its name; known extensions: {known}.\n"
        "  mend: rename the file, or use a class, e.g. JsonShardedSource(path)"
    )
