"""HFDatasetShardedSource and HuggingFaceShardedSource: Hugging Face data sets, in memory, on disk, or streaming.

Map-style data sets are read as slices of their Arrow table, whatever `select`, `shuffle` or `filter` made
of them; rows are never fetched one by one. Streaming ones hand their own state on.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

from easydata_sources.bad_rows.bad_row import Care
from easydata_sources.combined.wrapping import SameRowsSource, WrappingSource
from easydata_sources.errors import DataError, DataFilesNotFoundError, MissingExtraError
from easydata_sources.hf.map_style import MapStyleSource
from easydata_sources.hf.streaming import StreamingSource
from easydata_sources.source import ShardedDataSource, ShardInfo
from easydata_sources.storage.files import DataFile
from easydata_sources.storage.server_faults import raising_data_errors
from easydata_sources.types import Identity

if TYPE_CHECKING:
    import datasets


@final
class HFDatasetShardedSource(WrappingSource, SameRowsSource):
    """One shard holding a `datasets.Dataset` or `datasets.IterableDataset`.

    Map-style: rows come from Arrow. A format for another library (`with_format("torch")`) is ignored; a
    transform set with `set_transform` is applied, and features that need decoding (`Json`, `Image`, …) are
    decoded.

    Streaming: a stream with a shuffle buffer cannot say where it is, so resuming one reads it from its start;
    `source.shuffle(seed)` resumes at once. One that was shuffled without a seed has another order whenever it is built,
    so hosts cannot share it and no other process can resume it: both are refused. The order of a seeded one is that of
    the epoch set with `dataset.set_epoch`, and another in each further epoch of a run.

    Args:
        dataset: The data set; never changed.
        name: Name of the shard in error messages.
    """

    def __init__(self, dataset: datasets.Dataset | datasets.IterableDataset, name: str | None = None) -> None:
        library = _library("Reading Hugging Face data sets")
        given: Any = dataset
        shard = f"{name or 'hf_dataset'}:0"
        if isinstance(given, library.Dataset):
            self.source: ShardedDataSource = MapStyleSource(given, shard)
        elif isinstance(given, library.IterableDataset):
            self.source = StreamingSource(given, shard)
        else:
            raise DataError(
                f"A datasets.Dataset or IterableDataset is needed; found {type(dataset).__name__}.\n"
                "  mend: choose a split of a DatasetDict: dataset['train']"
            )

    @property
    def is_streaming(self) -> bool:
        """Whether the data set can only be read in order."""
        return not isinstance(self.source, MapStyleSource)

    @property
    def shard_names(self) -> Sequence[str]:
        return self.source.shard_names

    def row_source(self) -> ShardedDataSource:
        return self.source

    def get_shard_info(self, name: str) -> ShardInfo | None:
        return self.source.get_shard_info(name)

    def identity(self) -> Identity:
        return self.source.identity()

    def __len__(self) -> int:
        return len(self.source)

    def over(self, source: ShardedDataSource) -> ShardedDataSource:
        if source is self.source:
            return self
        same = copy.copy(self)
        same.source = source
        return same


@final
class HuggingFaceShardedSource(SameRowsSource):
    """A data set of the Hugging Face Hub (or a folder), loaded when its first row is read.

    Args:
        dataset_name: `namespace/name`, or a local folder.
        split: Split, as `load_dataset` takes it.
        subset: Configuration of the data set; None = its default.
        streaming: Read over the network as needed, instead of downloading first.
        revision: Commit, tag or branch; None = the newest. Give a commit for runs that can be repeated.
        cache_dir: Where downloads are kept; None = the library's default.
        token: Access token for private data sets; never shown.
    """

    def __init__(
        self,
        dataset_name: str,
        split: str = "train",
        subset: str | None = None,
        streaming: bool = True,
        *,
        revision: str | None = None,
        cache_dir: str | None = None,
        token: str | None = None,
    ) -> None:
        self.dataset_name = dataset_name
        self.split = split
        self._arguments: Mapping[str, Any] = {
            "name": subset,
            "streaming": streaming,
            "revision": revision,
            "cache_dir": cache_dir,
            "token": token,
        }
        self._care = Care()
        self._loaded: ShardedDataSource | None = None

    @property
    def shard_names(self) -> Sequence[str]:
        return (f"{self.dataset_name}:{self.split}:0",)

    def get_shard_info(self, name: str) -> ShardInfo | None:
        return self.row_source().get_shard_info(name)

    def data_files(self) -> Sequence[DataFile]:
        return self.row_source().data_files()

    def identity(self) -> Identity:
        known = {"dataset": self.dataset_name, "split": self.split}
        known |= {key: self._arguments[key] for key in ("name", "revision") if self._arguments[key] is not None}
        return {"source": "data set of the Hub", **known, "content": self.row_source().identity()}

    def with_care(self, care: Care) -> ShardedDataSource:
        careful = copy.copy(self)
        careful._care, careful._loaded = care, None
        return careful

    def __len__(self) -> int:
        return len(self.row_source())

    def row_source(self) -> ShardedDataSource:
        if self._loaded is None:
            library = _library(f"Loading the data set {self.dataset_name!r}")
            with raising_data_errors(f"hf://datasets/{self.dataset_name}"):
                dataset = self._load(library)
            source = HFDatasetShardedSource(dataset, name=f"{self.dataset_name}:{self.split}")
            self._loaded = source.with_care(self._care)
        return self._loaded

    def _load(self, library: Any) -> Any:
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        try:
            return library.load_dataset(self.dataset_name, split=self.split, **self._arguments)
        except (FileNotFoundError, RepositoryNotFoundError, RevisionNotFoundError) as error:
            raise DataFilesNotFoundError(
                f"There is no data set {self.dataset_name!r} on the Hub, or it may not be seen: {error}\n"
                "  mend: check the name (`namespace/name`); private data sets need a token, gated ones your consent"
            ) from error
        except ValueError as error:  # what the library raises for a split or a subset that is not there
            raise DataError(
                f"The data set {self.dataset_name!r} cannot be loaded with split={self.split!r} and "
                f"subset={self._arguments['name']!r}: {error}\n"
                "  mend: choose one of those that it has"
            ) from error


def _library(purpose: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError(purpose, module="datasets", extra="hf") from error
    return datasets
