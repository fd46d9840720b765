"""Streaming Hugging Face data sets: read in order, resumed by the library's own state, in one order of each epoch."""

from __future__ import annotations

import copy
import logging
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, final

from fsspec import AbstractFileSystem

from easydata_sources.errors import DataError, DataFormatError
from easydata_sources.hf.map_style import with_structs
from easydata_sources.hf.order import StreamOrder, stream_order
from easydata_sources.identity import UNIDENTIFIED, rows_digest
from easydata_sources.shuffling.permutation import mix_key
from easydata_sources.source import SingleShardSource
from easydata_sources.streams import RowStream, beyond_the_end
from easydata_sources.types import Identity, Origin, Row, State

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

_RUN_ROWS = 256
_LARGEST_EPOCH = 1 << 31

_UNREADABLE = (ValueError, TypeError, LookupError)  # what the library and Arrow raise for data they cannot read


@final
class StreamingSource(SingleShardSource):
    """One shard holding a `datasets.IterableDataset`.

    Args:
        dataset: The data set; never changed. Its epoch is asked for whenever a stream is begun.
        shard: Name of the shard.
    """

    def __init__(self, dataset: datasets.IterableDataset, shard: str) -> None:
        super().__init__(shard)
        self._original = dataset
        self._dataset = dataset.with_format(None)
        self._epoch = 0
        self._order = stream_order(self._dataset)
        if not self._order.seeded:
            logger.warning(
                "%s is shuffled without a seed: built anew, after a restart or on another host, it has another order. "
                "So it can neither be resumed by another process nor shared by hosts. Give .shuffle() a seed, or leave "
                "it out and use source.shuffle(seed).",
                shard,
            )
        elif self._order.buffered:
            logger.warning(
                "%s has a shuffle buffer, which its state does not hold: resuming will read it from its start. "
                "Leave out its .shuffle() and use source.shuffle(seed) to resume at once.",
                shard,
            )

    @property
    def is_endless(self) -> bool:
        return self._order.endless

    @property
    def has_repeatable_order(self) -> bool:
        return self._order.seeded

    def at_epoch(self, epoch: int) -> StreamingSource:
        if self._order.digest is None or epoch == self._epoch:
            return self  # by its epoch the library would shuffle the files of any stream
        source = copy.copy(self)
        # The library counts epochs in 64 bits, and mixtures count passes in more.
        source._epoch = epoch if epoch < _LARGEST_EPOCH else mix_key(epoch) % _LARGEST_EPOCH
        return source

    def identity(self) -> Identity:
        first = list(islice(self.rows(), _RUN_ROWS))
        known = {"source": "streaming data set", "first rows": rows_digest(first)}
        # A revision is a commit where the library has resolved it; else nothing names the rows that are still to come.
        return {
            **known,
            UNIDENTIFIED: f"the rows of the streaming data set {self.shard_names[0]} behind its first ones",
        }

    def rows(self, state: State | None = None) -> RowStream:
        epoch = self._original.epoch + self._epoch
        return _StreamingRows(self.shard_names[0], self._dataset, self._order, epoch, state)


@final
class _StreamingRows(RowStream):
    """Rows of a streaming data set; position = the library's state before a run of rows, and rows given since.

    Of a shuffled one also the epoch and a digest of the order, so that no other order is taken for its rest.
    """

    def __init__(
        self, shard: str, dataset: datasets.IterableDataset, order: StreamOrder, epoch: int, state: State | None
    ) -> None:
        self._shard = shard
        self._template = dataset
        self._order = order
        if state is not None and state.get("order") != order.digest:
            raise _other_order(shard, order)
        self._epoch = epoch if state is None else state.get("epoch", 0)
        self._before: State | None = state["stream"] if state else None
        self._consumed: int = state["consumed"] if state else 0  # since `_before`; with a buffer, since the start
        self._row: int = state["row"] if state else 0
        self._waiting: deque[Row] = deque()
        self._dataset: datasets.IterableDataset | None = None
        self._iterator: Iterator[Mapping[str, Any]] | None = None
        self._failure: Exception | None = None

    def __next__(self) -> Row:
        if not self._waiting:
            self._read_on()
        row = self._waiting.popleft()
        self._consumed += 1
        self._row += 1
        return row

    def state(self) -> State:
        state: State = {"stream": copy.deepcopy(self._before), "consumed": self._consumed, "row": self._row}
        if self._order.digest is not None:
            state["order"] = self._order.digest
        if self._epoch:
            state["epoch"] = self._epoch
        return state

    def origin(self) -> Origin:
        return self._shard, self._row - 1

    def origin_of_run(self, rows: int) -> Origin:
        return self._shard, self._row - rows

    def _read_on(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        rows: list[Row] = []
        try:
            dataset, iterator = self._opened()
            if self._consumed == _RUN_ROWS and not self._order.buffered:
                self._before, self._consumed = dataset.state_dict(), 0
            # Runs begin at every 256th row, wherever reading began: equal positions are told in equal words.
            wanted = _RUN_ROWS if self._order.buffered else _RUN_ROWS - self._consumed
            features = dataset.features
            rows.extend(with_structs(row, features) for row in islice(iterator, wanted))
        except BaseException as error:
            # The library's iterator looks exhausted ever after: asked again, another must come to the failure again.
            self._iterator = None
            if not isinstance(error, Exception):
                raise
            failure = self._as_data_error(error, self._row + len(rows))
            if not rows:
                raise failure from failure.__cause__
            self._failure = failure  # the rows read before it are given first
        if not rows:
            raise StopIteration
        self._waiting.extend(rows)

    def _opened(self) -> tuple[datasets.IterableDataset, Iterator[Mapping[str, Any]]]:
        """Returns a data set and its iterator at the present position."""
        if self._iterator is None:
            self._open()
        assert self._dataset is not None
        assert self._iterator is not None
        return self._dataset, self._iterator

    def _open(self) -> None:
        # The library keeps the position in the data set object, so each stream needs one of its own.
        dataset = copy.deepcopy(self._template, _file_systems_by_class())
        dataset.set_epoch(self._epoch)
        if self._before is not None:
            dataset.load_state_dict(self._before)
        iterator = iter(dataset)
        found = sum(1 for _ in islice(iterator, self._consumed))
        if found < self._consumed:
            raise beyond_the_end(f"{self._shard} ends {self._consumed - found} rows before row {self._row}")
        self._dataset, self._iterator = dataset, iterator

    def _as_data_error(self, error: Exception, row: int | None) -> Exception:
        """Returns the error that says where reading failed: of data it cannot read, else the one that was raised."""
        if isinstance(error, DataError) or not isinstance(error, _UNREADABLE):
            return error
        failure = DataFormatError(
            "The library cannot read on in a streaming data set.",
            file=self._shard,
            row=row,
            found=f"{type(error).__name__}: {error}",
            expected="a row",
            mend="look at the file it was reading, or read the files with the source class of their format",
        )
        failure.__cause__ = error
        return failure


def _file_systems_by_class() -> dict[int, Any]:
    """Returns what a copy shares with its original, as `copy.deepcopy` takes it: fsspec's tables of file systems."""
    # A data set may hold one, by way of the file system it reads from. To copy it would make a file system for this
    # thread, which enters the very table that is being gone through.
    classes: list[Any] = [AbstractFileSystem]
    for one in classes:
        classes.extend(one.__subclasses__())
    return {id(one._cache): one._cache for one in classes}


def _other_order(shard: str, order: StreamOrder) -> DataError:
    why = "has another shuffle, or another seed"
    if not order.seeded:
        why = "is shuffled without a seed, so that it has a new order whenever it is built"
    return DataError(
        f"The position is one of another order of the streaming data set {shard}, which {why}. To read on would "
        "repeat rows and lose others.\n  mend: shuffle it with the seed that it had, .shuffle(seed=…); or leave that "
        "out and use source.shuffle(seed)"
    )
