"""ChunkedSource: the abstract class behind the sources that read data themselves, a run of rows at a time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from easydata_sources.errors import DataError, DataFormatError
from easydata_sources.rows import rows_as_dicts
from easydata_sources.source import ShardedDataSource, shard_index
from easydata_sources.streams import Chunk, ChunkReader, ChunkStream, RowStream, beyond_the_end
from easydata_sources.types import Row, Rows, State

if TYPE_CHECKING:
    pass


class ChunkedSource(ShardedDataSource, ChunkReader):
    """A source that reads runs of rows; its position is `{"shard": index, "row": row, …}`.

    A subclass says how one shard is read from a position on. It may add keys of its own to the position
    (such as a byte offset), which it finds again there; it must also work without them.
    """

    @abstractmethod
    def read_shard(self, shard: int, position: State) -> Iterator[Chunk]:
        """Yields the shard's rows from `position["row"]` on; nothing at or beyond its end."""

    def rows(self, state: State | None = None) -> RowStream:
        return ChunkStream(self, self._start(state))

    def open_shard(self, name: str) -> Iterator[Row]:
        return self.open_shard_at_row(name, 0)

    def open_shard_at_row(self, name: str, row: int) -> Iterator[Row]:
        shard = shard_index(self, name)
        for chunk in self.read_shard(shard, {"shard": shard, "row": row}):
            yield from rows_as_dicts(chunk.rows)

    def chunks(self, start: State) -> Iterator[Chunk]:
        position = start
        for shard in range(start["shard"], self.num_shards()):
            found = False
            try:
                for chunk in self.read_shard(shard, position):
                    found = True
                    yield chunk
            except DataFormatError:
                if not found and position["row"]:
                    with suppress(DataFormatError):  # what is broken has no length
                        self._check_within(shard, position["row"])
                raise
            if not found and position["row"]:
                self._check_within(shard, position["row"])
            position = {"shard": shard + 1, "row": 0}

    def seek(self, start: State, rows: int) -> tuple[State, int]:
        shard, row, left = start["shard"], start["row"], rows
        reached = start
        if row and shard < self.num_shards():
            self._check_within(shard, row)
        while left and shard < self.num_shards():
            here = min(left, max(0, self.shard_length(shard) - row))
            if here:
                reached = {"shard": shard, "row": row + here}
            left -= here
            shard, row = shard + 1, 0
        return self._as_read(start, reached), rows - left

    def _check_within(self, shard: int, row: int) -> None:
        """Raises if a shard has fewer rows than a position says were given of it."""
        length = self.shard_length(shard)
        if row > length:
            raise beyond_the_end(f"{row} rows were given of {self.shard_names[shard]}, which has {length}")

    @abstractmethod
    def position_after(self, shard: int, row: int) -> State | None:
        """Returns the position after the first `row` rows of a shard as reading them would give it.

        A position depends on nothing but the rows before it, so that hosts which came to it in different ways save
        equal states. `None` says that only reading tells.
        """

    def _as_read(self, start: State, reached: State) -> State:
        """Returns the position that reading from `start` on would give at the shard and row of `reached`."""
        shard, row = reached["shard"], reached["row"]
        if reached is start:
            return start
        known = self.position_after(shard, row)
        if known is not None:
            return known
        begin = start if start["shard"] == shard else {"shard": shard, "row": 0}
        done = begin["row"]
        for chunk in self.read_shard(shard, begin):
            if done + len(chunk.rows) >= row:
                return chunk.state_after(row - done)
            done += len(chunk.rows)
        return reached

    @abstractmethod
    def shard_length(self, shard: int) -> int:
        """Returns the shard's number of rows, without decoding them if the format allows."""

    def __len__(self) -> int:
        return sum(self.shard_length(shard) for shard in range(self.num_shards()))

    def chunk(self, shard: int, first_row: int, rows: Rows, extra: Callable[[int], State] | None = None) -> Chunk:
        """Returns a chunk whose position after k rows is (shard, first_row + k) plus `extra(k)`."""

        def state_after(given: int) -> State:
            return {"shard": shard, "row": first_row + given, **(extra(given) if extra else {})}

        name = self.shard_names[shard]
        return Chunk(rows=rows, state_after=state_after, origin=lambda row: (name, first_row + row))

    def _start(self, state: State | None) -> State:
        start = {"shard": 0, "row": 0} if state is None else state
        if not {"shard", "row"} <= start.keys() or start["shard"] > self.num_shards():
            raise DataError(
                f"The position {start} does not belong to this {type(self).__name__} of {self.num_shards()} "
                "shards.\n  mend: restore it into a source made of the same files in the same order"
            )
        return start
