"""HFDatasetShardedSource and HuggingFaceShardedSource: Hugging Face data sets, in memory, on disk, or streaming.

Map-style data sets are read as slices of their Arrow table, whatever `select`, `shuffle` or `filter` made
of them; rows are never fetched one by one. Streaming ones hand their own state on.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from easydata_sources.bad_row import Care
from easydata_sources.chunked import ChunkedSource
from easydata_sources.errors import DataError, DataFilesNotFoundError, DataFormatError, MissingExtraError
from easydata_sources.gather import Gather
from easydata_sources.identity import UNIDENTIFIED, Identity, function_identity, rows_digest, table_identity
from easydata_sources.rows import Row, Rows, as_arrow_structs, table_as_batch
from easydata_sources.server_faults import told_in_our_words
from easydata_sources.single_shard import SingleShardSource
from easydata_sources.source import ShardedDataSource, ShardInfo, shard_index
from easydata_sources.streams import BatchStream, Chunk, ChunkReader, Place, RowStream, State

if TYPE_CHECKING:
    import datasets

    from easydata_sources.access import RowAccess

logger = logging.getLogger(__name__)

_CHUNK_ROWS = 1024
_STREAM_ROWS = 256

_UNREADABLE = (ValueError, TypeError, LookupError)  # what the library and Arrow raise for data they cannot read


class HFDatasetShardedSource(ShardedDataSource):
    """One shard holding a `datasets.Dataset` or `datasets.IterableDataset`.

    Map-style: rows come from Arrow. A format for another library (`with_format("torch")`) is ignored; a
    transform set with `set_transform` is applied, and features that need decoding (`Json`, `Image`, …) are
    decoded.

    Streaming: a stream with a shuffle buffer cannot say where it is, so resuming one reads it from its start;
    `source.shuffle(seed)` resumes at once.

    Args:
        dataset: The data set; never changed.
        name: Name of the shard in error messages.
    """

    def __init__(self, dataset: datasets.Dataset | datasets.IterableDataset, name: str | None = None) -> None:
        library = _library("Reading Hugging Face data sets")
        given: Any = dataset
        shard = f"{name or 'hf_dataset'}:0"
        if isinstance(given, library.Dataset):
            self._source: ShardedDataSource = _MapStyleSource(given, shard)
        elif isinstance(given, library.IterableDataset):
            self._source = _StreamingSource(given, shard)
        else:
            raise DataError(
                f"A datasets.Dataset or IterableDataset is needed; found {type(dataset).__name__}.\n"
                "  mend: choose a split of a DatasetDict: dataset['train']"
            )

    @property
    def is_streaming(self) -> bool:
        """Whether the data set can only be read in order."""
        return not isinstance(self._source, _MapStyleSource)

    @property
    def shard_names(self) -> Sequence[str]:
        return self._source.shard_names

    def get_shard_info(self, name: str) -> ShardInfo | None:
        return self._source.get_shard_info(name)

    def identity(self) -> Identity:
        return self._source.identity()

    def open_shard(self, name: str) -> Iterator[Row]:
        return self._source.open_shard(name)

    def open_shard_at_row(self, name: str, row: int) -> Iterator[Row]:
        return self._source.open_shard_at_row(name, row)

    def rows(self, state: State | None = None) -> RowStream:
        return self._source.rows(state)

    def batches(self, rows: int = 1024, state: State | None = None) -> BatchStream:
        return self._source.batches(rows, state)

    def with_care(self, care: Care) -> ShardedDataSource:
        careful = copy.copy(self)
        careful._source = self._source.with_care(care)
        return careful

    def reader(self) -> ChunkReader | None:
        return self._source.reader()

    def access(self) -> RowAccess | None:
        return self._source.access()

    def __len__(self) -> int:
        return len(self._source)


class HuggingFaceShardedSource(ShardedDataSource):
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
        return self._source().get_shard_info(name)

    def identity(self) -> Identity:
        known = {"dataset": self.dataset_name, "split": self.split}
        known |= {key: self._arguments[key] for key in ("name", "revision") if self._arguments[key] is not None}
        return {"source": "data set of the Hub", **known, "content": self._source().identity()}

    def open_shard(self, name: str) -> Iterator[Row]:
        return self._source().open_shard(name)

    def open_shard_at_row(self, name: str, row: int) -> Iterator[Row]:
        return self._source().open_shard_at_row(name, row)

    def rows(self, state: State | None = None) -> RowStream:
        return self._source().rows(state)

    def batches(self, rows: int = 1024, state: State | None = None) -> BatchStream:
        return self._source().batches(rows, state)

    def with_care(self, care: Care) -> ShardedDataSource:
        careful = copy.copy(self)
        careful._care, careful._loaded = care, None
        return careful

    def reader(self) -> ChunkReader | None:
        return self._source().reader()

    def access(self) -> RowAccess | None:
        return self._source().access()

    def __len__(self) -> int:
        return len(self._source())

    def _source(self) -> ShardedDataSource:
        if self._loaded is None:
            library = _library(f"Loading the data set {self.dataset_name!r}")
            with told_in_our_words(f"hf://datasets/{self.dataset_name}"):
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


class _MapStyleSource(ChunkedSource):
    def __init__(self, dataset: datasets.Dataset, shard: str) -> None:
        self._dataset = _formatted(dataset)
        self._shard = shard

    @property
    def shard_names(self) -> Sequence[str]:
        return (self._shard,)

    def get_shard_info(self, name: str) -> ShardInfo | None:
        return ShardInfo(shard_id=shard_index(self, name), shard_name=name, num_rows=len(self._dataset))

    def identity(self) -> Identity:
        stored = self._dataset.with_format("arrow", columns=self._dataset.format["columns"])
        table = table_identity(len(stored), lambda start, stop: stored[start:stop], nbytes=stored.data.nbytes)
        known = {"source": "data set", "columns": self._dataset.format["columns"], **table}
        if "samples" in table:
            known["fingerprint"] = self._dataset._fingerprint
        transform = self._dataset.format["format_kwargs"].get("transform")
        return known if transform is None else {**known, "transform": function_identity(transform)}

    def shard_length(self, shard: int) -> int:
        return len(self._dataset)

    def position_after(self, shard: int, row: int) -> State:
        return {"shard": shard, "row": row}

    def with_care(self, care: Care) -> ShardedDataSource:
        return self  # its rows have been read and checked by the library

    def read_shard(self, shard: int, position: State) -> Iterator[Chunk]:
        for start in range(position["row"], len(self._dataset), _CHUNK_ROWS):
            stop = min(start + _CHUNK_ROWS, len(self._dataset))
            yield self.chunk(shard, start, self._as_rows(self._dataset[start:stop]))

    def access(self) -> RowAccess:
        from easydata_sources.access import ExactAccess

        columns = self._dataset.format["type"] == "arrow" and self._dataset._indices is None
        take = Gather(self._dataset.data.table.select(self._dataset.format["columns"])) if columns else self._take
        return ExactAccess(self._shard, len(self._dataset), take)

    def _take(self, indices: Sequence[int]) -> Rows:
        return self._as_rows(self._dataset[indices if isinstance(indices, range) else list(indices)])

    def _as_rows(self, slice_: Any) -> Rows:
        if not isinstance(slice_, Mapping):
            return table_as_batch(slice_)
        names = list(slice_)
        rows = (dict(zip(names, values, strict=True)) for values in zip(*slice_.values(), strict=True))
        if self._dataset.format["type"] == "custom":  # made by the user's code, which pads nothing
            return list(rows)
        return [_with_structs(row, self._dataset.features) for row in rows]


class _StreamingSource(SingleShardSource):
    def __init__(self, dataset: datasets.IterableDataset, shard: str) -> None:
        super().__init__(shard)
        self._dataset = dataset.with_format(None)
        self.is_buffered = _has_shuffle_buffer(self._dataset)
        if self.is_buffered:
            logger.warning(
                "%s has a shuffle buffer, which its state does not hold: resuming will read it from its start. "
                "Leave out its .shuffle() and use source.shuffle(seed) to resume at once.",
                shard,
            )

    def identity(self) -> Identity:
        first = list(islice(self.rows(), _STREAM_ROWS))
        known = {"source": "streaming data set", "first rows": rows_digest(first)}
        # A revision is a commit where the library has resolved it; else nothing names the rows that are still to come.
        return {
            **known,
            UNIDENTIFIED: f"the rows of the streaming data set {self.shard_names[0]} behind its first ones",
        }

    def rows(self, state: State | None = None) -> RowStream:
        return _StreamingRows(self.shard_names[0], self._dataset, self.is_buffered, state)


class _StreamingRows(RowStream):
    """Rows of a streaming data set; position = the library's state before a run of rows, and rows given since."""

    def __init__(self, shard: str, dataset: datasets.IterableDataset, buffered: bool, state: State | None) -> None:
        # The library keeps the position in the data set object, so each stream needs one of its own.
        self._dataset = copy.deepcopy(dataset)
        self._shard = shard
        self._buffered = buffered
        self._before: State | None = state["stream"] if state else None
        self._first = state["row"] - state["emitted"] if state else 0
        if self._before is not None:
            self._dataset.load_state_dict(self._before)
        self._iterator = iter(self._dataset)
        self._rows: list[Row] = []
        self._given = 0
        self._failure: DataFormatError | None = None
        if state:
            self.skip(state["emitted"])

    def __next__(self) -> Row:
        if self._given == len(self._rows):
            self._read_on()
        row = self._rows[self._given]
        self._given += 1
        return row

    def state(self) -> State:
        row = self._first + self._given
        emitted = row if self._buffered else self._given
        return {"stream": copy.deepcopy(self._before), "emitted": emitted, "row": row}

    def origin(self) -> Place:
        return self._shard, self._first + self._given - 1

    def _read_on(self) -> None:
        # Before its first row the library has no state to tell; a fresh stream begins there anyway.
        before = self._dataset.state_dict() if self._rows and not self._buffered else self._before
        rows: list[Row] = []
        try:
            if self._failure is None:
                features = self._dataset.features
                rows.extend(_with_structs(row, features) for row in islice(self._iterator, _STREAM_ROWS))
        except _UNREADABLE as error:
            # The library's iterator looks exhausted ever after; the rows read before the failure are given first.
            self._failure = self._broken(error, self._first + self._given + len(rows))
        if not rows and self._failure is not None:
            raise self._failure
        if not rows:
            raise StopIteration
        self._first += self._given
        self._before, self._rows, self._given = before, rows, 0

    def _broken(self, error: Exception, row: int) -> DataFormatError:
        failure = DataFormatError(
            "The library cannot read on in a streaming data set.",
            file=self._shard,
            row=row,
            found=f"{type(error).__name__}: {error}",
            expected="a row",
            mend="look at the file it was reading, or read the files with the source class of their format",
        )
        failure.__cause__ = error
        return failure


def _formatted(dataset: datasets.Dataset) -> datasets.Dataset:
    """Return the data set set to hand out Arrow tables, or dicts of lists where the library must compute values."""
    from datasets.features import features

    if dataset.format["type"] == "custom":
        return dataset
    columns = None if dataset.format["output_all_columns"] else dataset.format["columns"]
    decoded = any(features.require_decoding(feature) for feature in dataset.features.values())
    return dataset.with_format(None if decoded else "arrow", columns=columns)


def _with_structs(row: Mapping[str, Any], features: Mapping[str, Any] | None) -> Row:
    """The row with what the library decoded from Arrow structs marked as such; JSON that it decoded is exact."""
    return {
        name: value if _holds_json((features or {}).get(name)) else as_arrow_structs(value)
        for name, value in row.items()
    }


def _holds_json(feature: Any) -> bool:
    if isinstance(feature, Mapping):
        return any(map(_holds_json, feature.values()))
    if isinstance(feature, list):
        return any(map(_holds_json, feature))
    inner = getattr(feature, "feature", None)
    return type(feature).__name__ == "Json" or (inner is not None and _holds_json(inner))


def _has_shuffle_buffer(dataset: datasets.IterableDataset) -> bool:
    """Whether a shuffle buffer is anywhere among the stages of a stream."""
    # The library has no public way to ask; its stages are objects that hold the stages before them.
    waiting, seen = [dataset._ex_iterable], set()
    while waiting:
        stage = waiting.pop()
        if id(stage) in seen or not type(stage).__name__.endswith("ExamplesIterable"):
            continue
        if type(stage).__name__.startswith("BufferShuffled"):
            return True
        seen.add(id(stage))
        for value in vars(stage).values():
            waiting += value if isinstance(value, list) else [value]
    return False


def _library(purpose: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError(purpose, module="datasets", extra="hf") from error
    return datasets
