"""The mixer: fills the blocks of a plan with rows of the sources.

Rows are read in chunks: a part of a large block, or several small blocks. The position inside a chunk is computed only
when somebody asks for it, so states cost nothing while rows flow.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from easydata_sources import State
from easydata_sources.bad_rows.bad_row import BadRow
from easydata_sources.rows import Row, Rows, concat_rows, rows_as_dicts, take_rows
from easydata_sources.streams import Chunk, Place

from easydata_mix.errors import MixtureError
from easydata_mix.plan.block_order import Order, concatenate, counts_of, first_unserved
from easydata_mix.plan.planner import BlockStart, Planner
from easydata_mix.plan.recipe import WeightBy
from easydata_mix.plan.walk import PlanPosition, Stop, drawn_at, leave_out, walk
from easydata_mix.reading.passes import Passes
from easydata_mix.reading.source_reader import Run, SourcePosition, SourceReader

if TYPE_CHECKING:
    pass

CHUNK_ROWS = 1024
"""Most rows in a chunk."""

_GATHERED_ROWS = 256  # small blocks are planned together up to this, for speed

PROVENANCE = "__source__"
"""The column that names a row's source."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MixturePosition:
    """A position in a mixture that is being read."""

    begin: BlockStart
    """Start of the block."""
    offset: int
    """Rows of the block already given."""
    positions: tuple[SourcePosition, ...]
    """Position in each source."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """All that reading needs beside a position."""

    planner: Planner
    passes: Passes
    stop: Stop
    provenance: bool
    weight_by: WeightBy
    length_field: str | None
    save: Callable[[MixturePosition], State]

    @property
    def names(self) -> Sequence[str]:
        """Names of the sources."""
        return self.passes.names


@dataclass(frozen=True, kw_only=True, slots=True)
class _Span:
    """The next rows of the plan: a part of a block, or several blocks."""

    order: Order
    position_after: Callable[[int], tuple[BlockStart, int]]
    """Block and offset in it after some rows of the span."""


class Mixer:
    """Reads a mixture chunk by chunk."""

    def __init__(self, reading: Reading, position: MixturePosition, *, columns: bool) -> None:
        self._reading = reading
        self._block_begin = position.begin
        self._offset = position.offset
        self._columns = columns
        self._readers = readers_of(reading, position, columns=columns)

    @property
    def position(self) -> MixturePosition:
        """Position after the chunks read so far."""
        positions = tuple(reader.position for reader in self._readers)
        return MixturePosition(begin=self._block_begin, offset=self._offset, positions=positions)

    def read(self, most: int = CHUNK_ROWS) -> Chunk | None:
        """Return the next chunk, of at most `most` rows; None at the end of the mixture."""
        while (span := self._plan(most)) is not None:
            cut = self._unserved(span.order)
            rows = cut[0] if cut else len(span.order)
            chunk = self._chunk_or_stay(span, rows) if rows else None
            self._block_begin, self._offset = span.position_after(rows)
            if chunk is not None:
                return chunk
            if cut is not None and not self._leave_out(cut[1]):
                break
        return None

    def skip(self, rows: int) -> int:
        """Step over rows and return how many there were; by arithmetic where the sources' lengths allow."""
        before, planner, stop = self.position, self._reading.planner, self._reading.stop
        lengths = self._reading.passes.rows if stop != "restart" else [None] * len(self._readers)
        if stop != "restart" and None in lengths:
            return self._read_over(rows)
        start = PlanPosition(begin=before.begin, offset=before.offset, drawn=(0,) * len(self._readers))
        inside = drawn_at(planner, start)
        drawn = [position.row - part for position, part in zip(before.positions, inside, strict=True)]
        start = replace(start, drawn=tuple(drawn))
        end = walk(planner, start, rows, lengths=lengths, stop=stop)
        for reader, position, now in zip(self._readers, before.positions, drawn_at(planner, end), strict=True):
            reader.skip(now - position.row)
        self._block_begin, self._offset = end.begin, end.offset
        planner.settle(end.row)
        return end.row - start.row

    def _read_over(self, rows: int) -> int:
        skipped = 0
        while skipped < rows:
            chunk = self.read(min(rows - skipped, CHUNK_ROWS))
            if chunk is None:
                break
            skipped += len(chunk.rows)
        return skipped

    def _plan(self, most: int) -> _Span | None:
        """Return the next rows of the plan; None if there are no more."""
        planner, begin, offset = self._reading.planner, self._block_begin, self._offset
        stretch = None if offset else planner.stretch(begin, most)
        if stretch is not None:
            planner.settle(begin.row + len(stretch.order))
            return _Span(order=stretch.order, position_after=lambda rows: (stretch.begin_after(rows), 0))
        starts: list[tuple[int, BlockStart, int]] = []
        orders: list[Order] = []
        rows = 0
        while rows < min(most, _GATHERED_ROWS):
            block = planner.block(begin)
            if block is None:
                break
            planner.settle(block.stop)
            starts.append((rows, begin, offset))
            orders.append(block.order[offset : offset + most - rows])
            rows += len(orders[-1])
            offset += len(orders[-1])
            if offset == block.stop - begin.row:
                begin, offset = planner.after(block), 0
        starts.append((rows, begin, offset))
        return _Span(order=concatenate(orders), position_after=partial(_begin_among, starts)) if orders else None

    def _unserved(self, order: Order) -> tuple[int, int] | None:
        wanted = self._counts(order)
        available = [reader.fill(rows) for reader, rows in zip(self._readers, wanted, strict=True)]
        return None if available == wanted else first_unserved(order, available)

    def _leave_out(self, source: int) -> bool:
        """Go on without a source that ran out; False if the mixture ends instead."""
        reading = self._reading
        behind = leave_out(reading.planner, self._block_begin, self._offset, source, reading.stop)
        if behind is None:
            return False
        self._block_begin, self._offset = behind, 0
        return True

    def _chunk_or_stay(self, span: _Span, rows: int) -> Chunk:
        before = self.position
        try:
            return self._chunk(span, rows)
        except Exception:
            # Rows that cannot be joined have left their readers; asked again, the mixer must come to them again.
            self._readers = readers_of(self._reading, before, columns=self._columns)
            raise

    def _chunk(self, span: _Span, rows: int) -> Chunk:
        order, before = span.order[:rows], tuple(reader.position for reader in self._readers)
        runs = [reader.take(count) for reader, count in zip(self._readers, self._counts(order), strict=True)]

        def state_after(given: int) -> State:
            begin, offset = span.position_after(given)
            counts = self._counts(order[:given])
            positions = tuple(map(_position_inside, before, runs, counts))
            return self._reading.save(MixturePosition(begin=begin, offset=offset, positions=positions))

        return Chunk(
            rows=interleave(order, runs, self._reading),
            state_after=state_after,
            place=partial(origin_in, self._reading, order, runs),
        )

    def _counts(self, order: Order) -> list[int]:
        return counts_of(order, len(self._readers))


def readers_of(reading: Reading, position: MixturePosition, *, columns: bool) -> list[SourceReader]:
    """Return what reads each source, from a position on."""
    return [
        SourceReader(reading.passes, source, position, columns=columns, restart=reading.stop == "restart")
        for source, position in enumerate(position.positions)
    ]


def origin_in(reading: Reading, order: Order, runs: Sequence[Sequence[Run]], given: int) -> Place:
    """Return where row `given` of a chunk came from."""
    source = int(order[given])
    name = reading.names[source]
    rank = int((order[:given] == source).sum())
    for run in runs[source]:
        if rank < len(run.rows):
            shard, row = run.first_place or (f"pass {run.start.turn + 1} over", run.start.row)
            return f"{shard} (source {name!r} of a mixture)", None if row is None else row + rank
        rank -= len(run.rows)
    return name, None


def _begin_among(starts: Sequence[tuple[int, BlockStart, int]], rows: int) -> tuple[BlockStart, int]:
    """Return the block and the offset in it after some rows.

    Args:
        starts: (row, block, offset in the block) where each block begins, and after the last row.
        rows: How many.
    """
    start, begin, offset = starts[bisect_right(starts, rows, key=lambda start: start[0]) - 1]
    return begin, offset + rows - start


def interleave(order: Order, runs: Sequence[Sequence[Run]], reading: Reading) -> Rows:
    """Return the rows of all runs in the order of the plan."""
    names = reading.names
    parts = [run.rows for source in runs for run in source]
    if all(isinstance(part, list) for part in parts):
        queues = [iter([row for run in source for row in rows_as_dicts(run.rows)]) for source in runs]
        picks: list[int] = order.tolist()
        if reading.provenance:
            return [_marked(next(queues[source]), names[source]) for source in picks]
        return [next(queues[source]) for source in picks]
    places = order.argsort(kind="stable").argsort(kind="stable")
    rows = take_rows(concat_rows(parts), places)
    return _with_source(rows, order, names) if reading.provenance else rows


def _marked(row: Row, name: str) -> Row:
    _refuse_provenance(row, name)
    return row if isinstance(row, BadRow) else {**row, PROVENANCE: name}


def _refuse_provenance(fields: Container[str], name: str) -> None:
    if PROVENANCE in fields:
        raise MixtureError(
            f"Rows of the source {name!r} have a field {PROVENANCE!r} already, which `provenance=True` would "
            f"overwrite. Rename it there, .rename_fields({{{PROVENANCE!r}: 'origin'}}), or leave provenance out."
        )


def _with_source(rows: Rows, order: Order, names: Sequence[str]) -> Rows:
    import pyarrow as pa

    if isinstance(rows, list):
        picks: list[int] = order.tolist()
        return [_marked(row, names[source]) for row, source in zip(rows, picks, strict=True)]
    column = pa.array([names[source] for source in order.tolist()], type=pa.string())
    _refuse_provenance(rows.schema.names, " or ".join(names))
    return rows.append_column(PROVENANCE, column)


def _position_inside(start: SourcePosition, runs: Sequence[Run], rows: int) -> SourcePosition:
    """Return the position after the first `rows` rows of a source's runs."""
    position = start
    for run in runs:
        if not rows:
            break
        inside = min(rows, len(run.rows))
        position = run.after(inside)
        rows -= inside
    return position
