"""as_sharded_source: the one place that decides what counts as a data set."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from easydata_sources.formats.by_extension import source_of_files
from easydata_sources.memory import MemoryShardedSource
from easydata_sources.source import ShardedDataSource
from easydata_sources.storage.schemes import opened
from easydata_sources.table import TableShardedSource, is_table


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
        return source_of_files(os.fspath(dataset), storage_options)
    if isinstance(dataset, list | tuple):
        if dataset and all(isinstance(item, str | os.PathLike) for item in dataset):
            return source_of_files([os.fspath(item) for item in dataset], storage_options)
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
