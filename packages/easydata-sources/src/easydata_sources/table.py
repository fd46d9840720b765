"""TableShardedSource: rows that are already here, as an Arrow table or a data frame."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, final

from easydata_sources.bad_rows.bad_row import Care
from easydata_sources.chunked import ChunkedSource
from easydata_sources.errors import DataError, DataFormatError
from easydata_sources.identity import table_identity
from easydata_sources.rows import concat_rows, table_as_batch, take_rows
from easydata_sources.source import ShardedDataSource, ShardInfo, shard_index
from easydata_sources.streams import Chunk
from easydata_sources.types import Identity, Rows, State

if TYPE_CHECKING:
    import pyarrow as pa

    from easydata_sources.shuffling.access import RowAccess

_CHUNK_ROWS = 1024


@final
class TableShardedSource(ChunkedSource):
    """One shard holding the rows of a table.

    What a data frame of pandas has no value for (`None`, `NaN`, `NaT`) is null in its rows; its index is no column.

    Args:
        table: An Arrow `Table` or `RecordBatch`, a data frame of pandas, or of another library that speaks Arrow's
            stream interface, such as Polars.
        name: Name of the shard, used in error messages.

    Raises:
        DataError: If two columns have one name, a name is no text, or a column has values of several types.
    """

    def __init__(self, table: Any, name: str = "table") -> None:
        self._table = _as_arrow(table, name)
        self._name = name

    @property
    def shard_names(self) -> Sequence[str]:
        return (self._name,)

    def get_shard_info(self, name: str) -> ShardInfo | None:
        return ShardInfo(shard_id=shard_index(self, name), shard_name=name, num_rows=self._table.num_rows)

    def identity(self) -> Identity:
        table = self._table
        known = table_identity(
            table.num_rows, lambda start, stop: table.slice(start, stop - start), nbytes=table.nbytes
        )
        return {"source": "table", "columns": table.schema.names, **known}

    def shard_length(self, shard: int) -> int:
        return self._table.num_rows

    def position_after(self, shard: int, row: int) -> State:
        return {"shard": shard, "row": row}

    def with_care(self, care: Care) -> ShardedDataSource:
        return self  # nothing can happen to rows in memory

    def read_shard(self, shard: int, position: State) -> Iterator[Chunk]:
        for start in range(position["row"], self._table.num_rows, _CHUNK_ROWS):
            yield self.chunk(shard, start, table_as_batch(self._table.slice(start, _CHUNK_ROWS)))

    def near_rows(self, start: State) -> int:
        return 0

    def access(self) -> RowAccess:
        from easydata_sources.shuffling.access import ExactAccess

        return ExactAccess(self._name, self._table.num_rows, Gather(self._table))


@final
class Gather:
    """Takes rows out of an Arrow table by their numbers, in any order, a run of columns at a time.

    Libraries take one row after the other, or join all chunks of a column first; here each chunk that holds some of the
    rows is asked once.

    Args:
        table: The table; its chunks may be mapped files.
    """

    def __init__(self, table: pa.Table) -> None:
        import numpy as np

        self._batches = table.to_batches()
        self._ends = np.cumsum([batch.num_rows for batch in self._batches])

    def __call__(self, indices: Sequence[int]) -> Rows:
        """Returns the rows with these numbers, in that order."""
        import numpy as np

        wanted = np.asarray(indices, np.int64)
        owners = self._ends.searchsorted(wanted, side="right")
        by_owner = owners.argsort(kind="stable")
        held, firsts = np.unique(owners[by_owner], return_index=True)
        runs = []
        for owner, positions in zip(held.tolist(), np.split(by_owner, firsts[1:]), strict=True):
            batch = self._batches[owner]
            runs.append(take_rows(batch, wanted[positions] - (self._ends[owner] - batch.num_rows)))
        rows = concat_rows(runs)
        return rows if len(runs) == 1 else take_rows(rows, by_owner.argsort())


def is_table(value: Any) -> bool:
    """Returns whether a value can be read as a table: a data frame, or an Arrow table or batch; no stream that is read
    once.
    """
    if _is_from("pyarrow", value, "RecordBatchReader"):
        return False
    return (
        _is_from("pandas", value, "DataFrame")
        or (hasattr(value, "columns") and hasattr(value, "__arrow_c_stream__"))
        or _is_from("pyarrow", value, "RecordBatch")
    )


def _as_arrow(table: Any, name: str) -> pa.Table:
    import pyarrow as pa

    frame = _is_from("pandas", table, "DataFrame")
    names = list(table.columns) if frame else None
    try:
        if frame:
            found = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata()
        elif isinstance(table, pa.RecordBatch):
            found = pa.Table.from_batches([table])
        else:
            found = table if isinstance(table, pa.Table) else pa.table(table)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, ValueError) as error:
        _check_names(names or [], name)
        raise DataFormatError(
            "A column of a data frame holds values that no single Arrow type can hold.",
            file=name,
            found=str(error),
            expected="one type per column (missing values are allowed)",
            mend='convert the column, or give the rows themselves: frame.to_dict("records")',
        ) from error
    _check_names(found.schema.names if names is None else names, name)
    return found


def _check_names(names: Sequence[Any], name: str) -> None:
    twice = [column for column, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(
            f"The table {name!r} has several columns of one name: {', '.join(map(repr, twice))}; a row can hold one.\n"
            "  mend: rename or drop all but one"
        )
    odd = [column for column in names if not isinstance(column, str)]
    if odd:
        raise DataError(
            f"The names of columns are texts; the table {name!r} has {', '.join(map(repr, odd[:5]))}.\n"
            "  mend: frame.rename(columns=str)"
        )


def _is_from(library: str, value: Any, kind: str) -> bool:
    # A value of a library exists only if that has been imported, so there is no need to import it to ask.
    module = sys.modules.get(library)
    return module is not None and isinstance(value, getattr(module, kind))
