"""TransformedShardedSource: a source whose rows go through a transform as they are read.

The position is a position of the *source*, and how many outputs of the rows read since then were consumed:
`{"source": …, "consumed": n}`. So it is exact for filters and expanders, whatever they drop or add, and resuming
repeats at most one batch of the transform. The counts of a `CountingTransform` before
that batch are part of the position too, so that a resumed run reports what an uninterrupted one would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias, final

from easydata_sources.bad_rows.bad_row import Care
from easydata_sources.bad_rows.policy import GoodRows, SetAside
from easydata_sources.combined.hosts import HostShardedSource
from easydata_sources.combined.stacked import StackedTransform, Stage, locate, reports_of
from easydata_sources.combined.wrapping import WrappingSource
from easydata_sources.errors import DataError, RowError
from easydata_sources.identity import function_identity
from easydata_sources.report import DataReport
from easydata_sources.source import ShardedDataSource, ShardInfo
from easydata_sources.streams import RowStream, read_with_origins, step_over
from easydata_sources.transforms.fields import FieldTransform
from easydata_sources.transforms.transform import (
    TransformLike,
    batch_rows,
    is_row_by_row,
    keeps_every_row,
    mixes_rows,
    transform_name,
)
from easydata_sources.types import Identity, Origin, Row, Rows, State

if TYPE_CHECKING:
    pass

Counted: TypeAlias = list[dict[str, Any]]
"""The counts of each report of a transform."""


class TransformedShardedSource(WrappingSource):
    """The rows of a source after a transform.

    `shuffle` and `shard` act on the source below, so shuffled transforms keep O(1) resuming and no host
    transforms what another reads; rows that one source row expands into stay together.

    Args:
        source: The source.
        transform: See `easydata_sources.transforms.transform`.
    """

    def __init__(self, source: ShardedDataSource, transform: TransformLike) -> None:
        if not callable(transform):
            raise DataError(
                f"A transform must be callable or a Transform; found {type(transform).__name__}.\n"
                "  mend: pass a function row -> row, or an instance of a transform class"
            )
        if isinstance(transform, type):
            raise DataError(
                f"{transform.__name__} is a class; a transform must be an instance.\n  mend: {transform.__name__}(…)"
            )
        stages = [Stage(transform, marks=False)]
        while mixes_rows(transform) and isinstance(source, TransformedShardedSource):
            source, stages = source.source, [*source._stages(), *stages]
        if len(stages) > 1:
            transform = StackedTransform(stages)
        self.source = source
        self.transform_applied = transform
        self._marks = False

    @property
    def shard_names(self) -> Sequence[str]:
        return self.source.shard_names

    def get_shard_info(self, name: str) -> ShardInfo | None:
        info = self.source.get_shard_info(name)
        if info is None or keeps_every_row(self.transform_applied):
            return info
        # A transform may drop or add rows, so their number is not known; the bytes are the source's.
        return ShardInfo(shard_id=info.shard_id, shard_name=name, byte_size=info.byte_size, url=info.url)

    def identity(self) -> Identity:
        return {"rows of": self.source.identity(), "transform": function_identity(self.transform_applied)}

    def open_shard(self, name: str) -> Iterator[Row]:
        rows = self.source.open_shard(name)
        done = 0
        while batch := list(islice(rows, batch_rows(self.transform_applied))):
            try:
                outputs = self.apply(batch, lambda index, done=done: (name, done + index))
            except RowError as error:
                raise error.located(file=name, row=done + error.row_in_batch) from error
            done += len(batch)
            for group in outputs:
                yield from group

    def with_care(self, care: Care) -> ShardedDataSource:
        return self.over(self.source.with_care(care)).marking(care.marks)

    @property
    def marks_bad_rows(self) -> bool:
        """Whether there is a `BadRow` for each row that it cannot handle."""
        return self._marks

    def marking(self, marks: bool = True) -> TransformedShardedSource:
        """Returns the stage with a `BadRow` for each row that it cannot handle; the source below is left as it is."""
        stage = copy(self)
        stage._marks = marks
        return stage

    def apply(self, rows: Sequence[Row], origin: Callable[[int], Origin] | None = None) -> list[list[Row]]:
        """Returns the outputs for some rows.

        Args:
            rows: The rows; a whole window where the transform mixes rows.
            origin: Where row n of them comes from; asked for bad rows.
        """
        if isinstance(self.transform_applied, StackedTransform):
            stacked = self.transform_applied.marking() if self._marks else self.transform_applied
            return stacked.apply(rows, origin)
        outputs = Stage(self.transform_applied, self._marks).apply(rows)
        if origin is not None:
            locate(outputs, origin)
        return outputs

    def reports(self) -> list[DataReport]:
        """Returns the reports that the transform or the parts of a chain count in, each once."""
        return reports_of(self.transform_applied)

    def rows(self, state: State | None = None) -> RowStream:
        start = None if state is None else state["source"]
        if isinstance(self.transform_applied, SetAside):
            counts = None if state is None else state["reports"][0]
            return GoodRows(self.transform_applied, self.source.rows(start), counts)
        if is_row_by_row(self.transform_applied):
            stream: RowStream = _RowByRowStream(self, start)
        else:
            stream = _BatchedStream(self, start, None if state is None else state.get("reports"))
        if state is not None:
            step_over(stream, state["consumed"])
        return stream

    def count_up_to(self, state: State) -> None:
        """Sets the transform's reports to what they say of the rows up to a position, and of none behind it.

        A stream counts a batch of rows when it transforms it, so reports run ahead of the rows given. A window of
        rows that are transformed together (packing) counts as a whole once one of its outputs was given.

        Args:
            state: A `.state()` of a row stream of this source or an equal one.
        """
        self._count_this_stage(state)
        if isinstance(self.source, TransformedShardedSource):
            self.source.count_up_to(state["source"])

    def _count_this_stage(self, state: State) -> None:
        reports = self.reports()
        if not reports or not state.get("reports"):
            return
        consumed, size = state["consumed"], batch_rows(self.transform_applied)
        batch = list(islice(self.source.rows(state["source"]), size)) if consumed else []
        if batch and not mixes_rows(self.transform_applied):
            batch = batch[: _groups_consumed(self.apply(batch), consumed)]
        for report, counts in zip(reports, state["reports"], strict=True):
            report.load_dict(counts)
        if batch:
            self.apply(batch)

    def __len__(self) -> int:
        return len(self.source) if keeps_every_row(self.transform_applied) else super().__len__()

    def shuffle(self, seed: int, epoch: int = 0, *, window_rows: int = 16_384) -> ShardedDataSource:
        return self.over(self.source.shuffle(seed, epoch, window_rows=window_rows))

    def shard(self, index: int, count: int, *, window: int = 256) -> ShardedDataSource:
        if mixes_rows(self.transform_applied):
            # Whole windows, so that what depends on the rows around is the same for any number of hosts.
            batch = batch_rows(self.transform_applied)
            window = -(-window // batch) * batch
            return self.over(HostShardedSource(self.source, index=index, count=count, window=window))
        return self.over(self.source.shard(index, count, window=window))

    def _stages(self) -> list[Stage]:
        if not isinstance(self.transform_applied, StackedTransform):
            return [Stage(self.transform_applied, self._marks)]
        stacked = self.transform_applied.marking() if self._marks else self.transform_applied
        return list(stacked.stages)

    def over(self, source: ShardedDataSource) -> TransformedShardedSource:
        """Returns the same stage over another source."""
        stage = copy(self)
        stage.source = source
        return stage


@final
class _RowByRowStream(RowStream):
    """Transforms a row when it is asked for; the position is always the source's own."""

    def __init__(self, owner: TransformedShardedSource, start: State | None) -> None:
        self._owner = owner
        self._transform = owner.transform_applied
        self._marked = owner.marks_bad_rows
        self._start = start
        self._read = 0  # since then
        self._stream = owner.source.rows(start)

    def __next__(self) -> Row:
        for row in self._stream:
            try:
                outputs = self._owner.apply([row], lambda _: self._stream.origin())[0]
            except Exception as error:
                file, number = self._stream.origin()
                self._step_back()
                if isinstance(error, RowError):
                    raise error.located(file=file, row=number) from error
                _add_origin(error, self._transform, (file, number))  # the user's own; passed on with the origin added
                raise
            self._read += 1
            if outputs:
                return outputs[0]
        raise StopIteration

    def take(self, rows: int) -> Rows | None:
        if not isinstance(self._transform, FieldTransform):
            return super().take(rows)
        run = self._stream.take(rows)
        if run is None or not len(run):
            return run
        try:
            changed = self._changed(run, self._transform)
        except DataError:
            # Rows of unlike columns meet in the run, and what cannot be done to all its columns may well be done to
            # those of each row; if not, the row that shows it is named.
            self._step_back()
            return super().take(len(run))
        self._read += len(run)
        return changed

    def _changed(self, run: Rows, transform: FieldTransform) -> Rows:
        """Returns a run with its fields changed, in columns where it is columns."""
        if not isinstance(run, list):
            return transform.transform_columns(run)
        if not self._marked:
            return transform.transform_rows(run)
        return [row for outputs in self._owner.apply(run, lambda _: self._stream.origin()) for row in outputs]

    def skip(self, rows: int) -> int:
        if not keeps_every_row(self._transform):
            return super().skip(rows)
        skipped = self._stream.skip(rows)
        self._read += skipped
        return skipped

    def _step_back(self) -> None:
        """Goes back before the row that failed: asked again, the stream must fail again rather than go on behind it."""
        self._stream = self._owner.source.rows(self._start)
        step_over(self._stream, self._read)

    def state(self) -> State:
        return {"source": self._stream.state(), "consumed": 0}

    def origin(self) -> Origin:
        return self._stream.origin()

    def origin_of_run(self, rows: int) -> Origin:
        return self._stream.origin_of_run(rows) if keeps_every_row(self._transform) else super().origin_of_run(rows)


@final
class _BatchedStream(RowStream):
    """Transforms a batch of rows at a time; the position is the source's before the batch, and outputs since."""

    def __init__(self, owner: TransformedShardedSource, start: State | None, counted: Counted | None) -> None:
        self._owner = owner
        self._reports = owner.reports()
        for report, counts in zip(self._reports, counted or (), strict=bool(counted)):
            report.load_dict(counts)
        self._stream = owner.source.rows(start)
        self._before = self._stream.state()
        self._counted = self._count()
        self._origins: list[Origin] = []
        self._failure: Exception | None = None
        self._outputs: list[list[Row]] = []
        self._group = 0  # input row of the batch whose outputs are being given
        self._in_group = 0
        self._consumed = 0

    def __next__(self) -> Row:
        while True:
            while self._group < len(self._outputs):
                group = self._outputs[self._group]
                if self._in_group < len(group):
                    row = group[self._in_group]
                    self._in_group += 1
                    self._consumed += 1
                    return row
                self._group, self._in_group = self._group + 1, 0
            self._transform_next_batch()

    def state(self) -> State:
        all_consumed = bool(self._outputs) and self._consumed == sum(map(len, self._outputs))
        # Behind the last output nothing of the batch is needed again.
        before, counted = (self._stream.state(), self._count()) if all_consumed else (self._before, self._counted)
        state: State = {"source": before, "consumed": 0 if all_consumed else self._consumed}
        if counted:
            state["reports"] = counted
        return state

    def origin(self) -> Origin:
        return self._origin_of(self._group)

    def _transform_next_batch(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        before, counted = self._stream.state(), self._count()
        transform = self._owner.transform_applied
        batch: list[Row] = []
        origins: list[Origin] = []
        try:
            read_with_origins(self._stream, batch_rows(transform), batch, origins)
        except Exception as error:
            if not batch or mixes_rows(transform):  # what mixes rows needs its whole window
                self._stream = self._owner.source.rows(before)
                raise
            self._failure = error  # what the rows read before it become is given first
        self._counted, self._origins = counted, origins
        self._before, self._outputs, self._group, self._in_group, self._consumed = before, [], 0, 0, 0
        if not batch:
            raise StopIteration
        try:
            self._outputs = self._owner.apply(batch, self._origin_of)
        except Exception as error:
            # Asked again, the stream must fail again rather than go on behind the batch.
            self._stream, self._failure = self._owner.source.rows(before), None
            if isinstance(error, RowError):
                file, number = self._origin_of(error.row_in_batch)
                raise error.located(file=file, row=number) from error
            file, number = self._origin_of(0)
            span = f"rows {number} and following" if number is not None else "rows"
            error.add_note(f"while {transform_name(transform)} was given {len(batch)} {span} of {file}")
            raise

    def _count(self) -> Counted:
        return [report.to_dict() for report in self._reports]

    def _origin_of(self, row_in_batch: int) -> Origin:
        return self._origins[row_in_batch] if row_in_batch < len(self._origins) else super().origin()


def _groups_consumed(groups: Sequence[Sequence[Row]], outputs: int) -> int:
    """Returns how many groups it took to give so many outputs."""
    consumed = 0
    for number, group in enumerate(groups):
        consumed += len(group)
        if consumed >= outputs:
            return number + 1
    return len(groups)


def _add_origin(error: Exception, transform: TransformLike, origin: Origin) -> None:
    file, row = origin
    error.add_note(f"while {transform_name(transform)} was given row {row} of {file}")
