"""MemoryShardedSource: rows that are already here, as a list of dicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, final

from easydata_sources.bad_rows.bad_row import Care
from easydata_sources.chunked import ChunkedSource
from easydata_sources.errors import DataFormatError
from easydata_sources.identity import rows_digest
from easydata_sources.source import ShardedDataSource, ShardInfo, shard_index
from easydata_sources.streams import Chunk
from easydata_sources.types import Identity, Row, Rows, State

if TYPE_CHECKING:
    from easydata_sources.shuffling.access import RowAccess

_CHUNK_ROWS = 1024


@final
class MemoryShardedSource(ChunkedSource):
    """One shard holding a list of dicts.

    Rows are handed out as shallow copies, so a transform that changes its row does not change the data.

    Args:
        rows: The rows; not copied.
        name: Name of the shard, used in error messages.

    Raises:
        DataFormatError: If a row is not a dict.
    """

    def __init__(self, rows: Sequence[Row], name: str = "memory") -> None:
        for index, row in enumerate(rows):
            if not isinstance(row, dict):
                raise DataFormatError(
                    "A row in a list of rows is not a dict.",
                    file=name,
                    row=index,
                    found=f"{type(row).__name__} {str(row)[:60]!r}",
                    expected="a dict of column name -> value",
                    mend='wrap plain texts: [{"text": text} for text in texts]',
                )
        self._rows = rows
        self._name = name

    @property
    def shard_names(self) -> Sequence[str]:
        return (self._name,)

    def get_shard_info(self, name: str) -> ShardInfo | None:
        return ShardInfo(shard_id=shard_index(self, name), shard_name=name, num_rows=len(self._rows))

    def identity(self) -> Identity:
        return {"source": "rows in memory", "rows": len(self._rows), "content": rows_digest(self._rows)}

    def shard_length(self, shard: int) -> int:
        return len(self._rows)

    def position_after(self, shard: int, row: int) -> State:
        return {"shard": shard, "row": row}

    def with_care(self, care: Care) -> ShardedDataSource:
        return self  # nothing can happen to rows in memory

    def read_shard(self, shard: int, position: State) -> Iterator[Chunk]:
        for start in range(position["row"], len(self._rows), _CHUNK_ROWS):
            rows = [dict(row) for row in self._rows[start : start + _CHUNK_ROWS]]
            yield self.chunk(shard, start, rows)

    def near_rows(self, start: State) -> int:
        return 0

    def access(self) -> RowAccess:
        from easydata_sources.shuffling.access import ExactAccess

        return ExactAccess(self._name, len(self._rows), self._take)

    def _take(self, indices: Sequence[int]) -> Rows:
        return [dict(self._rows[index]) for index in indices]
