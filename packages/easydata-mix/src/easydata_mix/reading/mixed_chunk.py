"""MixedChunk: rows of several sources in the order of a step of the plan, with the positions inside."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import final

from easydata_sources import State
from easydata_sources.bad_rows.bad_row import BadRow
from easydata_sources.rows import concat_rows, rows_as_dicts, slice_rows, take_rows
from easydata_sources.types import Origin, Row, Rows

from easydata_mix.errors import MixtureError
from easydata_mix.plan.block_order import counts_of
from easydata_mix.plan.steps import Step
from easydata_mix.plan.types import Order
from easydata_mix.reading.mixture import Mixture
from easydata_mix.reading.position import MixturePosition, SourcePosition
from easydata_mix.reading.source_reader import Run

PROVENANCE = "__source__"
"""The column that names a row's source."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class MixedChunk:
    """The rows of a step. Positions inside are computed only when asked for: while rows flow, they cost nothing."""

    mixture: Mixture
    step: Step
    before: tuple[SourcePosition, ...]
    """Position in each source before the step."""
    runs: Sequence[Sequence[Run]]
    """The rows of each source."""
    rows: Rows
    """All of them in order, without those that lie before the position at which the step was planned."""

    @classmethod
    def of(
        cls, mixture: Mixture, step: Step, before: tuple[SourcePosition, ...], runs: Sequence[Sequence[Run]]
    ) -> MixedChunk:
        """Returns the chunk of a step and its rows of each source."""
        rows = _interleaved(step.order, runs, mixture)
        rows = slice_rows(rows, step.resumed_at, len(rows)) if step.resumed_at else rows
        return cls(mixture=mixture, step=step, before=before, runs=runs, rows=rows)

    def position_after(self, rows: int) -> MixturePosition:
        """Returns the position after the first `rows` rows."""
        row = self.step.resumed_at + rows
        counts = counts_of(self.step.order[: self.step.read_before(row)], len(self.before))
        sources = tuple(map(_position_inside, self.before, self.runs, counts))
        return MixturePosition(plan=self.step.position_after(row), sources=sources)

    def state_after(self, rows: int) -> State:
        """Returns the same as it is saved."""
        return self.mixture.save(self.position_after(rows))

    def origin(self, row: int) -> Origin:
        """Returns where a row came from."""
        order, row = self.step.order, self.step.resumed_at + row
        source = int(order[row])
        name = self.mixture.names[source]
        rank = int((order[:row] == source).sum())
        for run in self.runs[source]:
            if rank < len(run.rows):
                shard, first = run.first_origin or (f"pass {run.start.passes + 1} over", run.start.row)
                return f"{shard} (source {name!r} of a mixture)", None if first is None else first + rank
            rank -= len(run.rows)
        return name, None


def _interleaved(order: Order, runs: Sequence[Sequence[Run]], mixture: Mixture) -> Rows:
    """Returns the rows of all runs in the order of the plan."""
    names = mixture.names
    parts = [run.rows for source in runs for run in source]
    if all(isinstance(part, list) for part in parts):
        queues = [iter([row for run in source for row in rows_as_dicts(run.rows)]) for source in runs]
        picks: list[int] = order.tolist()
        if mixture.provenance:
            return [_marked(next(queues[source]), names[source]) for source in picks]
        return [next(queues[source]) for source in picks]
    ranks = order.argsort(kind="stable").argsort(kind="stable")
    rows = take_rows(concat_rows(parts), ranks)
    return _with_source(rows, order, names) if mixture.provenance else rows


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
    """Returns the position after the first `rows` rows of a source's runs."""
    position = start
    for run in runs:
        if not rows:
            break
        inside = min(rows, len(run.rows))
        position = run.after(inside)
        rows -= inside
    return position
