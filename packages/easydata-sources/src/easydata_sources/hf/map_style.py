"""Map-style Hugging Face data sets: slices of an Arrow table, or what the library or a transform makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

from easydata_sources.bad_rows.bad_row import Care
from easydata_sources.chunked import ChunkedSource
from easydata_sources.errors import DataFormatError
from easydata_sources.identity import function_identity, table_identity
from easydata_sources.rows import as_arrow_structs, table_as_batch
from easydata_sources.source import ShardedDataSource, ShardInfo, shard_index
from easydata_sources.storage.files import DataFile
from easydata_sources.streams import Chunk
from easydata_sources.table import Gather
from easydata_sources.types import Identity, Row, Rows, State

if TYPE_CHECKING:
    import datasets

    from easydata_sources.shuffling.access import RowAccess

_CHUNK_ROWS = 1024


@final
class MapStyleSource(ChunkedSource):
    def __init__(self, dataset: datasets.Dataset, shard: str) -> None:
        self._dataset = _formatted(dataset)
        self._shard = shard

    @property
    def shard_names(self) -> Sequence[str]:
        return (self._shard,)

    def get_shard_info(self, name: str) -> ShardInfo | None:
        return ShardInfo(shard_id=shard_index(self, name), shard_name=name, num_rows=len(self._dataset))

    def data_files(self) -> Sequence[DataFile]:
        return [DataFile(url=file["filename"], remote=False) for file in self._dataset.cache_files]

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
            yield self.chunk(shard, start, self._as_rows(self._dataset[start:stop], stop - start, start))

    def near_rows(self, start: State) -> int:
        return 0

    def access(self) -> RowAccess:
        from easydata_sources.shuffling.access import ExactAccess

        columns = self._dataset.format["type"] == "arrow" and self._dataset._indices is None
        take = Gather(self._dataset.data.table.select(self._dataset.format["columns"])) if columns else self._take
        return ExactAccess(self._shard, len(self._dataset), take)

    def _take(self, indices: Sequence[int]) -> Rows:
        wanted = indices if isinstance(indices, range) else list(indices)
        return self._as_rows(self._dataset[wanted], len(indices), indices[0] if indices else 0)

    def _as_rows(self, read: Any, wanted: int, first: int) -> Rows:
        """Returns what the library gave for some rows.

        Args:
            read: An Arrow table, or lists by column.
            wanted: How many rows were asked for.
            first: Number of the first of them.

        Raises:
            DataFormatError: If it gave another number.
        """
        if not isinstance(read, Mapping):
            batch = table_as_batch(read)
            self._check_count({"rows": batch.num_rows}, wanted, first)
            return batch
        self._check_count({f"values of {name!r}": len(values) for name, values in read.items()}, wanted, first)
        rows = (dict(zip(read, values, strict=True)) for values in zip(*read.values(), strict=True))
        if self._dataset.format["type"] == "custom":  # made by the user's code, which pads nothing
            return list(rows)
        return [with_structs(row, self._dataset.features) for row in rows]

    def _check_count(self, counts: Mapping[str, int], wanted: int, first: int) -> None:
        if counts and all(count == wanted for count in counts.values()):
            return
        found = ", ".join(f"{count} {what}" for what, count in counts.items()) or "no columns"
        raise DataFormatError(
            "The transform of a data set gave another number of rows than it was given.",
            file=self._shard,
            row=first,
            found=f"{found} for {wanted} rows",
            expected="one row out for each row in: lengths and positions count the rows of the data set",
            mend="drop or add rows with dataset.filter(…) or .map(…, batched=True), or with source.filter(…) or an "
            "ExpandTransform",
        )


def _formatted(dataset: datasets.Dataset) -> datasets.Dataset:
    """Returns the data set set to hand out Arrow tables, or dicts of lists where the library must compute values."""
    from datasets.features import features

    if dataset.format["type"] == "custom":
        return dataset
    columns = None if dataset.format["output_all_columns"] else dataset.format["columns"]
    decoded = any(features.require_decoding(feature) for feature in dataset.features.values())
    return dataset.with_format(None if decoded else "arrow", columns=columns)


def with_structs(row: Mapping[str, Any], features: Mapping[str, Any] | None) -> Row:
    """Returns the row with what the library decoded from Arrow structs marked as such; JSON it decoded is exact."""
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
