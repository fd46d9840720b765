"""CompositeShardedSource: sources one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from easydata_sources.errors import DataError
from easydata_sources.rows import Row
from easydata_sources.source import ShardedDataSource, ShardInfo, shard_index
from easydata_sources.streams import RowStream, State

if TYPE_CHECKING:
    from easydata_sources.access import RowAccess


class CompositeShardedSource(ShardedDataSource):
    """The rows of several sources, one source after the other.

    A shard name that several sources use (two data sets wrapped without a name, say) gets `#2`, `#3`, … appended, so
    each shard is read once. The position is `{"part": index, "state": …}`.

    Args:
        sources: The sources; at least one.
    """

    def __init__(self, sources: Sequence[ShardedDataSource]) -> None:
        if not sources:
            raise DataError("A composite needs at least one source; the list is empty.")
        self.sources = tuple(sources)
        owned = [(part, name) for part in self.sources for name in part.shard_names]
        self._shards = dict(zip(_unique([name for _, name in owned]), owned, strict=True))

    @property
    def shard_names(self) -> Sequence[str]:
        return tuple(self._shards)

    def open_shard(self, name: str) -> Iterator[Row]:
        return self.open_shard_at_row(name, 0)

    def open_shard_at_row(self, name: str, row: int) -> Iterator[Row]:
        shard_index(self, name)
        part, own_name = self._shards[name]
        return part.open_shard_at_row(own_name, row)

    def get_shard_info(self, name: str) -> ShardInfo | None:
        shard = shard_index(self, name)
        part, own_name = self._shards[name]
        info = part.get_shard_info(own_name)
        if info is None:
            return None
        return ShardInfo(
            shard_id=shard,
            shard_name=name,
            num_rows=info.num_rows,
            byte_size=info.byte_size,
            url=info.url,
        )

    def rows(self, state: State | None = None) -> RowStream:
        return _CompositeRows(self.sources, state)

    def advance(self, state: State | None, rows: int) -> State:
        part, inner = (state["part"], state["state"]) if state else (0, None)
        while part < len(self.sources):
            stream_end = self._rows_left(part, inner)
            if stream_end is None:
                return super().advance({"part": part, "state": inner}, rows)
            if rows < stream_end:
                return {"part": part, "state": self.sources[part].advance(inner, rows)}
            rows -= stream_end
            part, inner = part + 1, None
        return {"part": part, "state": None}

    def access(self) -> RowAccess | None:
        from easydata_sources.access import ConcatenatedAccess

        parts = [part.access() for part in self.sources]
        known = [part for part in parts if part is not None]
        return ConcatenatedAccess(known) if len(known) == len(parts) else None

    def __len__(self) -> int:
        return sum(len(part) for part in self.sources)

    def _rows_left(self, part: int, inner: State | None) -> int | None:
        """Return how many rows a part still has, if that is known: only from its beginning is its length."""
        if inner is not None:
            return None
        try:
            return len(self.sources[part])
        except TypeError:
            return None


class _CompositeRows(RowStream):
    def __init__(self, sources: Sequence[ShardedDataSource], state: State | None) -> None:
        self._sources = sources
        self._part = state["part"] if state else 0
        self._start = state["state"] if state else None
        self._stream: RowStream | None = None

    def __next__(self) -> Row:
        while self._part < len(self._sources):
            if self._stream is None:
                self._stream = self._sources[self._part].rows(self._start)
            row = next(self._stream, None)
            if row is not None:
                return row
            self._part, self._start, self._stream = self._part + 1, None, None
        raise StopIteration

    def state(self) -> State:
        return {"part": self._part, "state": self._start if self._stream is None else self._stream.state()}

    def origin(self) -> tuple[str, int | None]:
        return ("", None) if self._stream is None else self._stream.origin()


def _unique(names: Sequence[str]) -> list[str]:
    seen: Counter[str] = Counter()
    taken = set(names)
    unique = []
    for name in names:
        seen[name] += 1
        candidate = name
        while seen[name] > 1 and (candidate == name or candidate in taken):
            candidate = f"{name}#{seen[name]}"
            seen[name] += candidate in taken
        taken.add(candidate)
        unique.append(candidate)
    return unique
