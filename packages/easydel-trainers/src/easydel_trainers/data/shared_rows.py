"""Transformed rows that several processes prepare together, in the one global order.

The source is dealt out in windows of rows, as many as the transform takes at a time: process p reads and transforms
every window number p of a round and steps over the others, so no row is read or tokenized twice. Then all exchange what
they have made. So every process sees all rows, and cuts steps, lengths and bins exactly as a single process would.

A position is that of `TransformedShardedSource`: where a window begins, and how many of its outputs were consumed. It
names no process, so a run may go on with another number of them, or with one.
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any, final

import jax
from easydata_sources import DataError, RowStream, TransformedShardedSource
from easydata_sources.report import add_counts
from easydata_sources.transforms.transform import apply_transform, batch_rows
from easydata_sources.types import Origin

from easydel_trainers.data.row_exchange import RowExchange

State = dict[str, Any]
Counts = dict[str, Any]


@final
class SharedRows(RowStream):
    """The rows of a source after a transform; see the module.

    Args:
        source: the raw rows and what makes trainable rows of them; equal on every process.
        exchange: the stream's own.
        state: where to go on, from `state()` here or of `source`.
    """

    def __init__(self, source: TransformedShardedSource, exchange: RowExchange, state: State | None):
        self._source, self._transform, self._reports = source.source, source.transform_applied, source.reports()
        self._exchange, self._window = exchange, batch_rows(self._transform)
        if state is not None and "reports" in state:
            self._load(state["reports"])
        self._stream = self._source.rows(None if state is None else state["source"])
        self._position, self._counted = self._stream.state(), self._count()
        self._windows: deque[_Window] = deque()
        self._outputs: list[Any] = []
        self._consumed = 0
        for _ in range(0 if state is None else state["consumed"]):
            next(self)

    def __next__(self) -> dict[str, Any]:
        """Returns the next row."""
        while self._consumed >= len(self._outputs):
            if not self._windows:
                self._read_round()
            self._begin(self._windows.popleft())
        self._consumed += 1
        return self._outputs[self._consumed - 1]

    def state(self) -> State:
        """Returns where the stream is."""
        return {"source": self._position, "consumed": self._consumed, "reports": self._counted}

    def origin(self) -> Origin:
        """Returns where the window of the row just given begins."""
        return self._source.rows(self._position).origin()

    def _begin(self, window: _Window) -> None:
        self._position, self._outputs, self._consumed = window.position, window.outputs, 0
        self._counted = self._count()
        self._load([add_counts(both) for both in zip(self._counted, window.counts, strict=True)])

    def _read_round(self) -> None:
        processes, own = jax.process_count(), jax.process_index()
        positions, raw = [], []
        for number in range(processes):
            positions.append(self._stream.state())
            if number == own:
                raw = list(itertools.islice(self._stream, self._window))
            else:
                self._stream.skip(self._window)
        payloads = self._exchange.swap(self._prepared(raw))
        for process, payload in enumerate(payloads):
            if "error" in payload:
                raise DataError(f"Process {process} could not prepare its rows: {payload['error']}")
        if not any(payload["read"] for payload in payloads):
            # An endless source is read on from here in the next epoch: its position must be behind the last window.
            self._position, self._outputs, self._consumed = self._stream.state(), [], 0
            self._counted = self._count()
            raise StopIteration
        for position, payload in zip(positions, payloads, strict=True):
            self._windows.append(_Window(position, payload["rows"], payload["counts"]))

    def _prepared(self, raw: list[Any]) -> dict[str, Any]:
        """Returns what this process makes of its window, and how the counts change by it."""
        before = self._count()
        self._load([{"rows": 0, "counts": {}}] * len(before))
        try:
            outputs = apply_transform(self._transform, raw) if raw else []
        except Exception as error:
            # The others wait for this window: they hear of it before this process ends.
            self._exchange.swap({"error": str(error)})
            raise
        counts = self._count()
        self._load(before)
        return {"read": len(raw), "rows": list(itertools.chain.from_iterable(outputs)), "counts": counts}

    def _count(self) -> list[Counts]:
        return [report.to_dict() for report in self._reports]

    def _load(self, counts: list[Counts]) -> None:
        for report, counted in zip(self._reports, counts, strict=True):
            report.load_dict(counted)


class _Window:
    def __init__(self, position: State, outputs: list[Any], counts: list[Counts]):
        self.position, self.outputs, self.counts = position, outputs, counts
