"""The mixer of shares of tokens: reads ahead to know the lengths of rows, and fills block by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from easydata_sources import State
from easydata_sources.bad_rows.bad_row import BadRow
from easydata_sources.rows import Rows, slice_rows
from easydata_sources.streams import Chunk

from easydata_mix.errors import MixtureError
from easydata_mix.plan.planner import Block, BlockStart
from easydata_mix.plan.walk import leave_out
from easydata_mix.reading.mixer import MixturePosition, Reading, interleave, origin_in, readers_of
from easydata_mix.reading.source_reader import SourceReader

if TYPE_CHECKING:
    import pyarrow as pa

_FIRST_LOOK = 64
"""Rows read ahead of a source at first; twice as many whenever those are used up."""


class TokenMixer:
    """Reads a mixture whose weights are shares of tokens.

    The position is that of the block's start, in the plan and in the sources, and the rows of the block given: its
    plan depends on the lengths from there on. Resuming reads at most one block again.
    """

    def __init__(self, reading: Reading, position: MixturePosition, *, columns: bool) -> None:
        self._reading = reading
        self._columns = columns
        self._begin(position)

    @property
    def position(self) -> MixturePosition:
        """Position after the chunks read so far."""
        return self._position

    def read(self, most: int = 0) -> Chunk | None:
        """Return what is left of the present block; None at the end of the mixture. `most` is not heeded."""
        while (planned := self._reading.planner.token_block(self._position.begin, self._upcoming)) is not None:
            (block, exhausted), given = planned, self._position.offset
            if block.stop > block.begin.row:
                self._last = self._position
                try:
                    chunk = self._chunk(block)
                except Exception:
                    self._begin(self._position)  # asked again, the mixer must come to the rows of the block again
                    raise
                self._move_to(self._reading.planner.after(block))
                if given < len(chunk.rows):
                    return _behind(chunk, given)
                continue
            # Only now, so that what is behind a block is the same whether it was given or stepped over.
            behind = exhausted is not None and leave_out(
                self._reading.planner, block.begin, 0, exhausted, self._reading.stop
            )
            if not behind:
                break
            self._move_to(behind)
        return None

    def _move_to(self, begin: BlockStart) -> None:
        self._position = MixturePosition(
            begin=begin, offset=0, positions=tuple(reader.position for reader in self._readers)
        )

    def skip(self, rows: int) -> int:
        """Step over rows and return how many there were; their lengths must be read all the same."""
        skipped = 0
        while skipped < rows:
            chunk = self.read()
            if chunk is None:
                break
            if skipped + len(chunk.rows) > rows:
                self._begin(replace(self._last, offset=self._last.offset + rows - skipped))
                return rows
            skipped += len(chunk.rows)
        return skipped

    def _begin(self, position: MixturePosition) -> None:
        self._position = position
        self._last = position  # where the chunk read last begins
        self._readers = readers_of(self._reading, position, columns=self._columns)
        self._lengths: list[list[int]] = [[] for _ in self._readers]

    def _chunk(self, block: Block) -> Chunk:
        before = MixturePosition(
            begin=block.begin, offset=0, positions=tuple(reader.position for reader in self._readers)
        )
        runs = [reader.take(count) for reader, count in zip(self._readers, block.quotas, strict=True)]
        for lengths, count in zip(self._lengths, block.quotas, strict=True):
            del lengths[:count]
        self._reading.planner.settle(block.stop)
        after = tuple(reader.position for reader in self._readers)
        rows = interleave(block.order, runs, self._reading)

        def state_after(given: int) -> State:
            if given < len(rows):
                return self._reading.save(MixturePosition(begin=before.begin, offset=given, positions=before.positions))
            return self._reading.save(
                MixturePosition(begin=self._reading.planner.after(block), offset=0, positions=after)
            )

        place = partial(origin_in, self._reading, block.order, runs)
        return Chunk(rows=rows, state_after=state_after, place=place)

    def _upcoming(self, source: int, index: int) -> int | None:
        lengths = self._lengths[source]
        while index >= len(lengths):
            known = len(lengths)
            ready = self._readers[source].fill(max(_FIRST_LOOK, 2 * known))
            if ready <= known:
                return None
            for rows in _rows_from(self._readers[source], known, ready):
                lengths += measured(rows, self._reading.names[source], self._reading.length_field)
        return lengths[index]


def measured(rows: Rows, source: str, length_field: str | None) -> list[int]:
    """Return the tokens of each row: the values of the field of lengths, or the lengths of `input_ids`.

    Raises:
        MixtureError: If rows have neither.
    """
    if not isinstance(rows, list):
        return _measured_columns(rows, source, length_field)
    return [0 if isinstance(row, BadRow) else _measured(row, source, length_field) for row in rows]


def _measured(row: dict[str, Any], source: str, length_field: str | None) -> int:
    if length_field is not None and row.get(length_field) is not None:
        return int(row[length_field])
    if length_field is None and row.get("input_ids") is not None:
        return len(row["input_ids"])
    raise _unmeasured(source, length_field, list(row))


def _measured_columns(batch: pa.RecordBatch, source: str, length_field: str | None) -> list[int]:
    import pyarrow.compute as pc

    name = length_field or "input_ids"
    column = batch.column(name) if name in batch.schema.names else None
    if column is None or column.null_count:
        raise _unmeasured(source, length_field, batch.schema.names)
    return (pc.call_function("list_value_length", [column]) if length_field is None else column).to_pylist()


def _unmeasured(source: str, length_field: str | None, fields: Sequence[str]) -> MixtureError:
    wanted = "`input_ids`" if length_field is None else f"`{length_field}`"
    return MixtureError(
        f"Shares of tokens need the length of every row, and a row of the source {source!r} has no {wanted}; it has "
        f"{', '.join(map(str, fields)) or 'no fields'}. Mix tokenized rows, or name a column that holds their lengths: "
        "length_field=…"
    )


def _rows_from(reader: SourceReader, start: int, stop: int) -> list[Rows]:
    parts: list[Rows] = []
    for rows in reader.waiting():
        if start < len(rows):
            parts.append(slice_rows(rows, max(start, 0), min(stop, len(rows))))
        start, stop = start - len(rows), stop - len(rows)
        if stop <= 0:
            break
    return parts


def _behind(chunk: Chunk, offset: int) -> Chunk:
    """Return the chunk without its first rows."""
    if not offset:
        return chunk
    return Chunk(
        rows=slice_rows(chunk.rows, offset, len(chunk.rows)),
        state_after=lambda given: chunk.state_after(offset + given),
        place=lambda row: chunk.place(offset + row),
    )
