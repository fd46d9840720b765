"""The sources of a mixture: named and made readable, and read over and over, shuffled in another order each time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from typing import Any, final

from easydata_sources import ShardedDataSource, as_sharded_source
from easydata_sources.bad_rows.bad_row import Care

from easydata_mix.errors import MixtureError
from easydata_mix.plan.share_curve import HORIZON

_PASS_BITS = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Shuffle:
    """How the rows of every source are shuffled."""

    seed: int
    window_rows: int


@final
@dataclass(frozen=True, kw_only=True)
class Passes:
    """The passes over each source in an epoch."""

    sources: Mapping[str, ShardedDataSource]
    shuffle: Shuffle | None = None
    """None = in their own order."""
    epoch: int = 0

    @property
    def names(self) -> Sequence[str]:
        """Names of the sources, in order."""
        return tuple(self.sources)

    def source(self, index: int) -> ShardedDataSource:
        """Returns a source as it was given."""
        return self.sources[self.names[index]]

    def open(self, index: int, number: int) -> ShardedDataSource:
        """Returns a source as it is read in the pass of that number, from 0."""
        epoch = (self.epoch << _PASS_BITS) + number  # no two passes of any epochs have the same
        source = self.source(index).at_epoch(epoch)
        if self.shuffle is None:
            return source
        # Without the name, sources of one length would all be permuted alike.
        digest = blake2b(f"{self.shuffle.seed}/{self.names[index]}".encode(), digest_size=7).digest()
        return source.shuffle(int.from_bytes(digest, "big"), epoch, window_rows=self.shuffle.window_rows)

    def with_care(self, care: Care) -> Passes:
        """Returns the passes over the careful sources."""
        return replace(self, sources={name: source.with_care(care) for name, source in self.sources.items()})

    @property
    def before(self) -> int:
        """Passes that the epoch's number stands for: of an inner mixture, outer epochs and passes together."""
        passes, epoch = 0, self.epoch
        while epoch:
            passes += epoch & ((1 << _PASS_BITS) - 1)
            epoch >>= _PASS_BITS
        return passes

    @cached_property
    def epoch_rows(self) -> Sequence[int | None]:
        """Rows of each source in an epoch; None = unknown."""
        # Not at construction: counting the lines of a large JSON file takes a while.
        return [_length(source) for source in self.sources.values()]

    @property
    def rows(self) -> Sequence[int | None]:
        """Rows of each source in a pass; None = unknown, `HORIZON` = without end."""
        endless = [source.is_endless for source in self.sources.values()]
        return [HORIZON if never else length for never, length in zip(endless, self.epoch_rows, strict=True)]

    def known_epoch_rows(self, index: int) -> int:
        """Returns the rows of a source in an epoch, or raises its own error if they are unknown."""
        length = self.epoch_rows[index]
        return len(self.source(index)) if length is None else length

    def known_rows(self, index: int) -> int:
        """Returns the rows of a source in a pass, or raises its own error if they are unknown."""
        return HORIZON if self.source(index).is_endless else self.known_epoch_rows(index)


def _length(source: ShardedDataSource) -> int | None:
    try:
        return len(source)
    except TypeError:
        return None


def named_sources(sources: Mapping[str, Any] | Sequence[Any]) -> dict[str, ShardedDataSource]:
    """Returns the sources by name; a list's are named `source_0`, `source_1`, …

    Raises:
        MixtureError: If there are none, one is known to be empty, or they are neither a mapping nor a list.
        TypeError: If one of them is not a data set; a note says which.
    """
    if isinstance(sources, str | bytes) or not isinstance(sources, Mapping | Sequence):
        raise MixtureError(
            f"The sources must be a dict of name -> data set, or a list of data sets; found {type(sources).__name__}."
        )
    if not sources:
        raise MixtureError("There is nothing to mix: give at least one source.")
    if not isinstance(sources, Mapping):
        sources = {f"source_{index}": source for index, source in enumerate(sources)}
    named = {}
    for name, source in sources.items():
        if not isinstance(name, str):
            raise MixtureError(f"Names of sources must be strings; found {name!r}.")
        try:
            named[name] = as_sharded_source(source, name=name)
        except (TypeError, ValueError) as error:
            error.add_note(f"while preparing the source {name!r} of a mixture")
            raise
        _refuse_empty(name, named[name])
    return named


def _refuse_empty(name: str, source: ShardedDataSource) -> None:
    """Raises if a source says of itself, without being read, that it holds nothing."""
    # A generator: the first shard that holds something spares asking the others.
    infos = (source.get_shard_info(shard) for shard in source.shard_names)
    if all(info is not None and 0 in (info.num_rows, info.byte_size) for info in infos):
        raise MixtureError(
            f"The source {name!r} is empty, so no share of it can be given. Remove it, or check its files and filters."
        )
