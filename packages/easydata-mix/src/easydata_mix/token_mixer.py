"""The mixer of shares of tokens: reads ahead to know the lengths of rows, and fills block by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from easydata_sources import State
from easydata_sources.bad_row import BadRow
from easydata_sources.rows import Rows, slice_rows
from easydata_sources.streams import Chunk

from easydata_mix.errors import MixtureError
from easydata_mix.feed import Feed
from easydata_mix.mixer import Reading, ReadSpot, feeds_of, interleave, origin_in
from easydata_mix.plan import Block, Place

if TYPE_CHECKING:
    import pyarrow as pa

_FIRST_LOOK = 64
"""Rows read ahead of a source at first; twice as many whenever those are used up."""


class TokenMixer:
    """Reads a mixture whose weights are shares of tokens.

    The position is that of the block's start, in the plan and in the sources, and the rows of the block given: its
    plan depends on the lengths from there on. Resuming reads at most one block again.
    """

    def __init__(self, reading: Reading, spot: ReadSpot, *, columns: bool) -> None:
        self._reading = reading
        self._columns = columns
        self._begin(spot)

    @property
    def spot(self) -> ReadSpot:
        """Position after the chunks read so far."""
        return self._spot

    def read(self, most: int = 0) -> Chunk | None:
        """Return what is left of the present block; None at the end of the mixture. `most` is not heeded."""
        while (planned := self._reading.planner.token_block(self._spot.place, self._upcoming)) is not None:
            (block, exhausted), given = planned, self._spot.offset
            if block.stop > block.place.row:
                self._last = self._spot
                try:
                    chunk = self._chunk(block)
                except Exception:
                    self._begin(self._spot)  # asked again, the mixer must come to the rows of the block again
                    raise
                self._move_to(self._reading.planner.after(block))
                if given < len(chunk.rows):
                    return _behind(chunk, given)
            elif exhausted is None or self._reading.stop != "all_exhausted":
                break
            else:
                # Only now, so that the place behind a block is the same whether it was given or stepped over.
                self._move_to(self._reading.planner.without(block.place, exhausted, block.stop))
        return None

    def _move_to(self, place: Place) -> None:
        self._spot = ReadSpot(place=place, offset=0, cursors=tuple(feed.cursor for feed in self._feeds))

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

    def _begin(self, spot: ReadSpot) -> None:
        self._spot = spot
        self._last = spot  # where the chunk read last begins
        self._feeds = feeds_of(self._reading, spot, columns=self._columns)
        self._lengths: list[list[int]] = [[] for _ in self._feeds]

    def _chunk(self, block: Block) -> Chunk:
        before = ReadSpot(place=block.place, offset=0, cursors=tuple(feed.cursor for feed in self._feeds))
        runs = [feed.take(count) for feed, count in zip(self._feeds, block.quotas, strict=True)]
        for lengths, count in zip(self._lengths, block.quotas, strict=True):
            del lengths[:count]
        self._reading.planner.settle(block.stop)
        after = tuple(feed.cursor for feed in self._feeds)
        rows = interleave(block.order, runs, self._reading)

        def state_after(given: int) -> State:
            if given < len(rows):
                return self._reading.save(ReadSpot(place=before.place, offset=given, cursors=before.cursors))
            return self._reading.save(ReadSpot(place=self._reading.planner.after(block), offset=0, cursors=after))

        place = partial(origin_in, self._reading, block.order, runs)
        return Chunk(rows=rows, state_after=state_after, place=place)

    def _upcoming(self, source: int, index: int) -> int | None:
        lengths = self._lengths[source]
        while index >= len(lengths):
            known = len(lengths)
            ready = self._feeds[source].fill(max(_FIRST_LOOK, 2 * known))
            if ready <= known:
                return None
            for rows in _rows_from(self._feeds[source], known, ready):
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


def _rows_from(feed: Feed, start: int, stop: int) -> list[Rows]:
    parts: list[Rows] = []
    for rows in feed.waiting():
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
