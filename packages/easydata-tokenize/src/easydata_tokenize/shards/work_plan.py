"""How a source is divided into units of work: a function of the source and the limits, never of who does the work."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, final

from easydata_sources.chunked import ChunkedSource
from easydata_sources.combined.hosts import HostShardedSource
from easydata_sources.combined.transformed import TransformedShardedSource
from easydata_sources.errors import DataError
from easydata_sources.formats.file_source import FileSource
from easydata_sources.source import ShardedDataSource, shard_index
from easydata_sources.streams import Chunk
from easydata_sources.transforms.transform import batch_rows, mixes_rows
from easydata_sources.types import State

from easydata_tokenize.saved.folder import SetFolder
from easydata_tokenize.shards.shard_work import ShardLayout, ShardWork

__all__ = ["divide", "source_below"]

_FEW_FILES = 8
_JOINED_BYTES = 2**24


def divide(
    source: ShardedDataSource, folder: SetFolder, layout: ShardLayout, num_shards: int | None
) -> list[ShardWork]:
    """Returns the units of work that together write the source's rows in order.

    With `num_shards` so many stretches of equal source rows, each one shard. Otherwise each file of the source is a
    unit of its own, or many small files in a row are (16 MiB, where there are more than 8), and everything that is no
    file is one unit; units become as many shards as the limits ask for.

    Raises:
        DataError: If `num_shards` is out of range, or the source's length is not known.
    """
    if num_shards is not None:
        whole = replace(layout, limits=replace(layout.limits, max_bytes=sys.maxsize))
        stretches = enumerate(_stretches(source, num_shards))
        return [
            ShardWork(source=part, folder=folder, prefix=f"shard-{index:05d}", numbered=False, layout=whole)
            for index, part in stretches
        ]
    files = _files(source, layout)
    if len(files) < 2:
        return [ShardWork(source=source, folder=folder, prefix="shard", numbered=True, layout=layout)]
    return [
        ShardWork(source=part, folder=folder, prefix=f"shard-{index:05d}", numbered=True, layout=layout)
        for index, part in enumerate(files)
    ]


def source_below(source: ShardedDataSource) -> ShardedDataSource:
    """Returns what is read before any transform."""
    while isinstance(source, TransformedShardedSource):
        source = source.source
    return source


def _stretches(source: ShardedDataSource, count: int) -> Iterator[ShardedDataSource]:
    if count < 1:
        raise DataError(f"`num_shards` must be at least 1; found {count}.")
    try:
        rows = len(source_below(source))
    except TypeError as error:
        raise DataError(f"`num_shards` needs a source of known length: {error}") from error
    window = max(1, -(-rows // count))
    largest = max((batch_rows(applied) for applied in _applied(source) if mixes_rows(applied)), default=1)
    # What depends on the rows around it (packing) must see whole windows.
    window = -(-window // largest) * largest
    for index in range(count):
        yield _over(source, HostShardedSource(source_below(source), index=index, count=count, window=window))


def _files(source: ShardedDataSource, layout: ShardLayout) -> list[ShardedDataSource]:
    below = source_below(source)
    if not isinstance(below, FileSource):
        return []
    if any(map(mixes_rows, _applied(source))):
        # Windows reach over the ends of files.
        return []
    return [_over(source, _SomeFiles(below, names)) for names in _joined(below, layout)]


def _joined(source: FileSource, layout: ShardLayout) -> Iterator[Sequence[str]]:
    """Yields the files in runs, each a unit of work."""
    # One by one, what a unit and a shard cost would be most of the cost of small files.
    names = source.shard_names
    if len(names) <= _FEW_FILES:
        yield from ([name] for name in names)
        return
    most = min(_JOINED_BYTES, layout.limits.max_bytes)
    run: list[str] = []
    held = 0
    for name in names:
        info = source.get_shard_info(name)
        size = most if info is None or info.byte_size is None else info.byte_size
        if run and held + size > most:
            yield run
            run, held = [], 0
        run.append(name)
        held += size
    if run:
        yield run


def _applied(source: ShardedDataSource) -> list[Any]:
    """Returns the transforms above what is read, the first to be applied first."""
    applied: list[Any] = []
    while isinstance(source, TransformedShardedSource):
        applied.insert(0, source.transform_applied)
        source = source.source
    return applied


def _over(source: ShardedDataSource, below: ShardedDataSource) -> ShardedDataSource:
    """Returns the same transforms over other rows."""
    return source.over(_over(source.source, below)) if isinstance(source, TransformedShardedSource) else below


@final
class _SomeFiles(ChunkedSource):
    """A run of a source's files, with its own way of finding a position in it."""

    def __init__(self, source: FileSource, names: Sequence[str]) -> None:
        self._source, self._names = source, tuple(names)
        self._first = shard_index(source, names[0])

    @property
    def shard_names(self) -> Sequence[str]:
        return self._names

    def read_shard(self, shard: int, position: State) -> Iterator[Chunk]:
        index = self._first + shard
        for chunk in self._source.read_shard(index, {**position, "shard": index}):
            yield replace(chunk, state_after=partial(_numbered, shard, chunk.state_after))

    def position_after(self, shard: int, row: int) -> State | None:
        known = self._source.position_after(self._first + shard, row)
        return None if known is None else {**known, "shard": shard}

    def near_rows(self, start: State) -> int:
        return self._source.near_rows({**start, "shard": self._first + start["shard"]})

    def shard_length(self, shard: int) -> int:
        return self._source.shard_length(self._first + shard)


def _numbered(shard: int, state_after: Callable[[int], State], given: int) -> State:
    return {**state_after(given), "shard": shard}
