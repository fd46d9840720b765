"""Training rows in their one global order, epoch after epoch, resumable at any row.

The order is a function of (source, seed, epoch) alone; a source that has an order of its own for each epoch, such as a
streaming data set that was shuffled, is read in that of the epoch. Steps may reach over the border of two epochs, so no
row is ever dropped to make the numbers divide. A source without end, such as a mixture that restarts its sources, is
read on from epoch to epoch where it is not shuffled: so each of its sources goes through all its rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from easydata_sources import CountingTransform, DataError, RowStream, ShardedDataSource, TransformedShardedSource
from easydata_sources.bad_rows.policy import SetAside
from easydata_sources.combined.hosts import check_repeatable
from easydata_sources.combined.limit import LimitedShardedSource
from easydata_sources.types import Origin
from easydel_transforms import IGNORE_INDEX

from easydel_trainers.data.row_exchange import RowExchange
from easydel_trainers.data.shared_rows import SharedRows

State = dict[str, Any]

_TOKENS = frozenset({"input_ids", "labels", "prompt_ids", "completion_ids", "chosen_ids", "rejected_ids"})


class NoRowsError(DataError):
    """A whole epoch leaves no row to train on."""


class EpochRows(Iterator[Mapping[str, Any]]):
    """Transformed rows of some epochs of a source.

    Args:
        source: the raw rows.
        transform: what makes trainable rows of them; it may drop rows.
        epochs: passes over the source, the last one maybe a fraction; `None` = without end.
        shuffle_seed: seed of the epochs' orders; `None` = file order.
        bad_rows: what takes out rows that cannot be read or transformed; `None` = they raise.
        state: where to go on, from an earlier `state()`.
        exchange: with the other processes that prepare these rows; `None` = this one prepares all.
        vocab_size: tokens that the model knows; `None` = whatever there is.

    Raises:
        DataError: when a whole epoch leaves no row to train on, or a row holds a token that the model does not know.
    """

    def __init__(
        self,
        source: ShardedDataSource,
        transform: CountingTransform,
        *,
        epochs: float | None,
        shuffle_seed: int | None,
        bad_rows: SetAside | None = None,
        state: State | None = None,
        exchange: RowExchange | None = None,
        vocab_size: int | None = None,
    ):
        self._vocab_size = vocab_size
        self._source, self._transform, self._bad_rows = source, transform, bad_rows
        self._epochs, self._shuffle_seed, self._exchange = epochs, shuffle_seed, exchange
        self._epoch = state["epoch"] if state else 0
        self._consumed = state["consumed"] if state else 0
        self._rows = self._open(state["rows"] if state else None)

    def __next__(self) -> Mapping[str, Any]:
        """Returns the next row to train on."""
        while self._rows is not None:
            row = next(self._rows, None)
            if row is not None:
                self._consumed += 1
                self._check_tokens(row)
                return row
            self._next_epoch()
        raise StopIteration

    def state(self) -> State:
        """Returns where the stream is: small, JSON-able, and enough to go on with the next row."""
        rows = None if self._rows is None else self._rows.state()
        return {"epoch": self._epoch, "consumed": self._consumed, "rows": rows}

    def origin(self) -> Origin:
        """Returns where the row just given comes from; reads it again, so it is for error messages."""
        if self._rows is None:
            raise ValueError("no row has been given of which to say where it comes from")
        return self._rows.origin()

    @property
    def epoch(self) -> int:
        """Number of the current epoch, from 0."""
        return self._epoch

    @property
    def ends_epoch(self) -> bool:
        """Whether the row just given is known to be the last one of its epoch, without reading on.

        It is where every row of the source gives one; else the first row of the next epoch tells.
        """
        share = math.inf if self._epochs is None else self._epochs - self._epoch
        return self._consumed == rows_in_all(self._source, min(1.0, share))

    def _check_tokens(self, row: Mapping[str, Any]) -> None:
        """Refuses a row with a token that the model does not know."""
        # Compiled code would read anything for a token beyond the embedding, and the loss become NaN.
        if self._vocab_size is None:
            return
        for name, values in row.items():
            if name not in _TOKENS:
                continue
            tokens = np.asarray(values)
            odd = tokens[
                (tokens >= self._vocab_size) | ((tokens < 0) & ~((name == "labels") & (tokens == IGNORE_INDEX)))
            ]
            if odd.size:
                file, number = self.origin()
                raise DataError(
                    f"{file} row {number}: `{name}` holds the token {int(odd[0])}; the model knows 0 to "
                    f"{self._vocab_size - 1}. The rows were tokenized for another model, or with tokens that were "
                    "added to the tokenizer alone: use the model's own tokenizer."
                )

    def _next_epoch(self) -> None:
        if not self._consumed:
            report = self._transform.report
            reasons = ", ".join(f"{count} {reason}" for reason, count in report.counts.items()) or "none was counted"
            raise NoRowsError(
                f"The data has no row to train on: of {report.rows} rows read every one was dropped ({reasons}), or "
                "there is none. Longer limits (max_length) keep rows that are too long; the transform's `explain(row)` "
                "shows what becomes of one."
            )
        assert self._rows is not None
        goes_on = self._shuffle_seed is None and self._source.is_endless
        state = _with_new_limit(self._transformed(), self._rows.state()) if goes_on else None
        self._epoch, self._consumed = self._epoch + 1, 0
        self._rows = self._open(state)

    def count_up_to(self, state: State) -> None:
        """Makes the transform's report that of the rows up to a position, whatever was read ahead of it.

        Args:
            state: an earlier `state()`, of these rows or of others like them.
        """
        self._epoch = state["epoch"]
        source = self._transformed()
        if source is not None and state["rows"] is not None:
            source.count_up_to(state["rows"])

    def _open(self, state: State | None) -> RowStream | None:
        source = self._transformed()
        if source is None or self._exchange is None:
            return None if source is None else source.rows(state)
        if jax.process_count() > 1:
            check_repeatable(source, f"{jax.process_count()} processes")
        return SharedRows(source, self._exchange, state)

    def _transformed(self) -> TransformedShardedSource | None:
        """Returns what the current epoch reads; `None` behind the last one."""
        share = 1.0 if self._epochs is None else self._epochs - self._epoch
        if share <= 0:
            return None
        source = self._source.at_epoch(self._epoch)
        if self._shuffle_seed is not None:
            source = source.shuffle(seed=self._shuffle_seed, epoch=self._epoch)
        rows = rows_in_all(self._source, min(share, 1.0))
        if rows is not None:
            # A mixture that restarts its sources never ends by itself; its length is one epoch.
            source = source.limit(rows)
        return trainable(source, self._transform, self._bad_rows)


def trainable(
    source: ShardedDataSource, transform: CountingTransform, bad_rows: SetAside | None
) -> TransformedShardedSource:
    """Returns the transformed rows of a source, without the bad ones if those are to be taken out."""
    rows = TransformedShardedSource(source, transform)
    return rows if bad_rows is None else TransformedShardedSource(rows.marking(), bad_rows)


def _with_new_limit(source: ShardedDataSource | None, state: State) -> State | None:
    """Returns the position in a source with the count of the epoch's limit begun anew; `None` if there is no such
    limit.
    """
    if isinstance(source, LimitedShardedSource):
        return {**state, "consumed": 0}
    if not isinstance(source, TransformedShardedSource):
        return None
    below = _with_new_limit(source.source, state["source"])
    return below and {**state, "source": below}


def rows_in_all(source: ShardedDataSource, epochs: float) -> int | None:
    """Source rows that `epochs` passes read; `None` where the source's length is unknown."""
    try:
        rows = len(source)
    except TypeError:
        return None
    return math.floor(epochs) * rows + math.ceil((epochs - math.floor(epochs)) * rows)
