"""CompositeShardedSource: sources one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, final

from easydata_sources.bad_rows.bad_row import Care
from easydata_sources.errors import DataError
from easydata_sources.source import ShardedDataSource, ShardInfo, shard_index
from easydata_sources.streams import RowStream, beyond_the_end
from easydata_sources.types import Identity, Origin, Row, Rows, State

if TYPE_CHECKING:
    from easydata_sources.shuffling.access import RowAccess
    from easydata_sources.storage.files import DataFile


@final
class CompositeShardedSource(ShardedDataSource):
    """The rows of several sources, one source after the other.

    A shard name that several sources use (two data sets wrapped without a name, say) gets `#2`, `#3`, …
    appended, so each shard is read once. The position is `{"part": index, "state": …}`.

    Args:
        sources: The sources; at least one.
    """

    def __init__(self, sources: Sequence[ShardedDataSource]) -> None:
        if not sources:
            raise DataError("A composite needs at least one source; the list is empty.")
        endless = [index for index, part in enumerate(sources[:-1]) if part.is_endless]
        if endless:
            raise DataError(
                f"Source {endless[0]} of a composite never ends, so the {len(sources) - endless[0] - 1} behind it "
                "would never be read.\n  mend: bound it with .limit(n), put it last, or mix them: MixedShardedSource(…)"
            )
        self.sources = tuple(sources)
        owned = [(part, name) for part in self.sources for name in part.shard_names]
        self._shards = dict(zip(_unique([name for _, name in owned]), owned, strict=True))

    @property
    def shard_names(self) -> Sequence[str]:
        return tuple(self._shards)

    def data_files(self) -> Sequence[DataFile]:
        return [file for part in self.sources for file in part.data_files()]

    def identity(self) -> Identity:
        return {"rows of": [part.identity() for part in self.sources]}

    @property
    def is_endless(self) -> bool:
        return self.sources[-1].is_endless

    @property
    def has_repeatable_order(self) -> bool:
        return all(part.has_repeatable_order for part in self.sources)

    def at_epoch(self, epoch: int) -> ShardedDataSource:
        parts = [part.at_epoch(epoch) for part in self.sources]
        same = all(part is own for part, own in zip(parts, self.sources, strict=True))
        return self if same else CompositeShardedSource(parts)

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
        self._check(state)
        return _CompositeStream(self.sources, state)

    def access(self) -> RowAccess | None:
        from easydata_sources.shuffling.access import ConcatenatedAccess

        parts = [part.access() for part in self.sources]
        known = [part for part in parts if part is not None]
        return ConcatenatedAccess(known) if len(known) == len(parts) else None

    def with_care(self, care: Care) -> ShardedDataSource:
        return CompositeShardedSource([part.with_care(care) for part in self.sources])

    def _check(self, state: State | None) -> None:
        if state is not None and state["part"] > len(self.sources):
            raise beyond_the_end(f"it is in source {state['part']}, and there are {len(self.sources)}")

    def __len__(self) -> int:
        return sum(len(part) for part in self.sources)


@final
class _CompositeStream(RowStream):
    def __init__(self, sources: Sequence[ShardedDataSource], state: State | None) -> None:
        self._sources = sources
        self._part = state["part"] if state else 0
        self._start = state["state"] if state else None
        self._stream: RowStream | None = None

    def __next__(self) -> Row:
        while (stream := self._current()) is not None:
            row = next(stream, None)
            if row is not None:
                return row
            self._next_part()
        raise StopIteration

    def take(self, rows: int) -> Rows | None:
        stream = self._current()
        run = None if stream is None else stream.take(rows)
        if run is None and stream is not None:
            self._next_part()
            return []
        return run

    def skip(self, rows: int) -> int:
        skipped = 0
        while skipped < rows and (stream := self._current()) is not None:
            skipped += stream.skip(rows - skipped)
            if skipped < rows:
                self._next_part()
        return skipped

    def state(self) -> State:
        return {"part": self._part, "state": self._start if self._stream is None else self._stream.state()}

    def origin(self) -> Origin:
        return super().origin() if self._stream is None else self._stream.origin()

    def origin_of_run(self, rows: int) -> Origin:
        return super().origin_of_run(rows) if self._stream is None else self._stream.origin_of_run(rows)

    def _current(self) -> RowStream | None:
        if self._stream is None and self._part < len(self._sources):
            self._stream = self._sources[self._part].rows(self._start)
        return self._stream

    def _next_part(self) -> None:
        self._part, self._start, self._stream = self._part + 1, None, None


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
