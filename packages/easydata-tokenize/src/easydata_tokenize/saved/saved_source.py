"""open_saved: a set on disk as a source that knows its lengths."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
from easydata_sources.combined.wrapping import SameRowsSource
from easydata_sources.convert import as_sharded_source
from easydata_sources.errors import DataError
from easydata_sources.formats.parquet import ParquetShardedSource
from easydata_sources.source import ShardedDataSource, ShardInfo, shard_index
from numpy.typing import NDArray

from easydata_tokenize.saved.folder import SetFolder, checksum
from easydata_tokenize.saved.manifest import IncompleteSetError, Manifest

if TYPE_CHECKING:
    from easydata_sources.storage.files import DataFile
    from easydata_sources.types import Identity

__all__ = ["SavedShardedSource", "open_saved"]


def open_saved(
    path: str | Path, *, verify: bool = False, storage_options: Mapping[str, Any] | None = None
) -> SavedShardedSource:
    """Opens a set that `save_dataset`, `save_iterator` or `tokenize_and_save` wrote.

    Args:
        path: Its folder, or the URL of one.
        verify: Whether to read every file and compare its checksum.
        storage_options: Arguments of the file system.

    Raises:
        IncompleteSetError: If the set is not whole, or a file is missing or not what was written.
    """
    folder = SetFolder(path, storage_options)
    try:
        manifest = Manifest.find(folder)
    except OSError as error:
        if isinstance(error, DataError):
            raise
        raise IncompleteSetError(
            f"{folder} cannot be read as a set: {error}.\n  mend: name the folder of one"
        ) from error
    if manifest is None or not manifest.complete:
        rows = 0 if manifest is None else sum(shard["rows"] for shard in manifest.shards)
        found = "no manifest" if manifest is None else f"{rows} rows in whole files so far"
        raise IncompleteSetError(f"{folder} holds no complete set ({found}).\n  mend: run again what writes it")
    manifest.check_files(verify=verify)
    return SavedShardedSource(folder, manifest)


@final
class SavedShardedSource(SameRowsSource):
    """The rows of a set; its lengths are known without reading any.

    Args:
        folder: of the set.
        manifest: of the set, which is complete.
    """

    def __init__(self, folder: SetFolder, manifest: Manifest) -> None:
        self._folder, self._shards = folder, manifest.shards
        addresses = [folder.address(shard["file"]) for shard in self._shards]
        options = folder.storage_options
        if not addresses:
            self._rows: ShardedDataSource = as_sharded_source([], name=str(folder))
        elif manifest.identity["format"] == "parquet":
            self._rows = ParquetShardedSource(addresses, options)
        else:
            self._rows = as_sharded_source(addresses, storage_options=options)

    @property
    def shard_names(self) -> Sequence[str]:
        return self._rows.shard_names if self._shards else ()

    @property
    def num_tokens(self) -> int:
        """Tokens in all rows."""
        return sum(shard["tokens"] for shard in self._shards)

    def token_lengths(self) -> NDArray[np.uint32] | None:
        """Returns the tokens of every row, in order, from the files of lengths: uint32 `[rows]`; no row is read.

        None if rows hold no tokens.

        Raises:
            IncompleteSetError: If a file of lengths is not what was written.
        """
        if not all("lengths" in shard for shard in self._shards):
            return None
        return np.concatenate([np.zeros(0, np.uint32), *(self._lengths_of(shard) for shard in self._shards)])

    def identity(self) -> Identity:
        files = [{"rows": shard["rows"], "sha256": shard["sha256"]} for shard in self._shards]
        return {"source": "saved set", "files": files}

    def row_source(self) -> ShardedDataSource:
        return self._rows

    def data_files(self) -> Sequence[DataFile]:
        return self._rows.data_files()

    def get_shard_info(self, name: str) -> ShardInfo | None:
        index = shard_index(self, name)
        shard = self._shards[index]
        return ShardInfo(shard_id=index, shard_name=name, num_rows=shard["rows"], byte_size=shard["bytes"], url=name)

    def __len__(self) -> int:
        return sum(shard["rows"] for shard in self._shards)

    def _lengths_of(self, shard: Mapping[str, Any]) -> NDArray[np.uint32]:
        name = shard["lengths"]["file"]
        content = self._folder.read(name) or b""
        if checksum(io.BytesIO(content)) != shard["lengths"]["sha256"]:
            raise IncompleteSetError(f"{self._folder.address(name)} is not what was written: its checksum differs.")
        return np.load(io.BytesIO(content), allow_pickle=False)
