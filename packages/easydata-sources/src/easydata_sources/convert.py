"""as_sharded_source: the one place that decides what counts as a data set."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from easydata_sources.errors import DataError
from easydata_sources.formats.arrow import ARROW_EXTENSIONS, ArrowShardedSource
from easydata_sources.formats.delimited import CSV_EXTENSIONS, TSV_EXTENSIONS, CsvShardedSource
from easydata_sources.formats.jsonl import JSON_EXTENSIONS, JsonShardedSource
from easydata_sources.formats.parquet import PARQUET_EXTENSIONS, ParquetShardedSource
from easydata_sources.formats.text import TEXT_EXTENSIONS, TextShardedSource
from easydata_sources.memory import MemoryShardedSource
from easydata_sources.source import ShardedDataSource
from easydata_sources.storage.files import DataFile, expand_data_files
from easydata_sources.storage.schemes import opened
from easydata_sources.table import TableShardedSource, is_table

_FORMATS: Mapping[tuple[str, ...], Callable[..., ShardedDataSource]] = {
    PARQUET_EXTENSIONS: ParquetShardedSource,
    JSON_EXTENSIONS: JsonShardedSource,
    ARROW_EXTENSIONS: ArrowShardedSource,
    CSV_EXTENSIONS + TSV_EXTENSIONS: CsvShardedSource,
    TEXT_EXTENSIONS: TextShardedSource,
}


def as_sharded_source(
    dataset: Any, *, name: str = "train", storage_options: Mapping[str, Any] | None = None
) -> ShardedDataSource:
    """Returns whatever a trainer accepts as a data set as a source.

    Args:
        dataset: A source; a Hugging Face `Dataset` or `IterableDataset`; a list or tuple of dicts; a data frame of
            pandas or Polars, or an Arrow table; a path, glob, folder or URL of files whose extension says their
            format; or a name of `schemes`, such as `hub://OWNER/NAME:SPLIT`.
        name: What error messages call data that has no name of its own.
        storage_options: Arguments for the file system, if it is a path.

    Raises:
        TypeError: If it is none of these; says what is accepted.
        DataError: If files are missing, or of no or several formats.
    """
    if isinstance(dataset, str):
        dataset = opened(dataset)
    if isinstance(dataset, ShardedDataSource):
        return dataset
    if isinstance(dataset, str | os.PathLike):
        return _from_files(os.fspath(dataset), storage_options)
    if isinstance(dataset, list | tuple):
        if dataset and all(isinstance(item, str | os.PathLike) for item in dataset):
            return _from_files([os.fspath(item) for item in dataset], storage_options)
        return MemoryShardedSource(dataset, name=name)
    if _is_huggingface(dataset):
        from easydata_sources.hf.sources import HFDatasetShardedSource

        return HFDatasetShardedSource(dataset, name=name)
    if is_table(dataset):
        return TableShardedSource(dataset, name=name)
    raise TypeError(_refusal(dataset))


def _is_huggingface(dataset: Any) -> bool:
    # An instance exists only if the library has been imported, so there is no need to import it to ask.
    library = sys.modules.get("datasets")
    return library is not None and isinstance(dataset, library.Dataset | library.IterableDataset)


def _from_files(paths: str | list[str], storage_options: Mapping[str, Any] | None) -> ShardedDataSource:
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


def _refusal(dataset: Any) -> str:
    kind = f"{type(dataset).__module__}.{type(dataset).__qualname__}"
    accepted = (
        "accepted: a ShardedDataSource, a Hugging Face Dataset or IterableDataset, a list of dicts, a data frame or "
        "Arrow table, or a path, glob or URL of .parquet, .jsonl, .json, .arrow, .csv, .tsv or .txt files"
    )
    if isinstance(dataset, Mapping):
        keys = ", ".join(map(str, list(dataset)[:5]))
        return (
            f"A mapping ({kind} with the keys {keys}) is not one data set; {accepted}.\n"
            "  mend: choose a split, e.g. dataset['train'], or mix several with MixedShardedSource"
        )
    return (
        f"{kind} is not a data set; {accepted}.\n"
        "  mend: a generator can be read only once, so give list(generator), or subclass ShardedDataSource"
    )
