"""SourceReaders: the sources of a mixture at one position, and what the plan asks of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from easydata_sources.rows import slice_rows
from easydata_sources.types import Rows

from easydata_mix.reading.mixture import Mixture
from easydata_mix.reading.position import SourcePosition
from easydata_mix.reading.row_lengths import row_lengths
from easydata_mix.reading.source_reader import Run, SourceReader

_FIRST_LOOK = 64
"""Rows read ahead of a source at first to know their lengths; twice as many whenever those are used up."""


@final
class SourceReaders:
    """Reads all sources of a mixture side by side (a `Supply` of the plan).

    Args:
        mixture: The mixture.
        positions: Where to begin in each source.
    """

    def __init__(self, mixture: Mixture, positions: Sequence[SourcePosition]) -> None:
        self._mixture = mixture
        self._readers = [
            SourceReader(mixture.passes, source, position, restart=mixture.recipe.stop == "restart")
            for source, position in enumerate(positions)
        ]
        self._lengths: list[list[int]] = [[] for _ in self._readers]  # of the next rows, as far as they are known

    @property
    def positions(self) -> tuple[SourcePosition, ...]:
        """Position in each source, after the rows taken so far."""
        return tuple(reader.position for reader in self._readers)

    def available(self, wanted: Sequence[int]) -> list[int]:
        """Returns how many of so many next rows each source can give; they are read, and wait to be taken."""
        return [reader.fill(rows) for reader, rows in zip(self._readers, wanted, strict=True)]

    def tokens(self, source: int, ahead: int) -> int | None:
        """Returns the tokens of a source's next row but `ahead`; None if it has no more."""
        lengths, reader = self._lengths[source], self._readers[source]
        while ahead >= len(lengths):
            known = len(lengths)
            ready = reader.fill(max(_FIRST_LOOK, 2 * known))
            if ready <= known:
                return None
            name, field = self._mixture.names[source], self._mixture.recipe.length_field
            for rows in _rows_between(reader, known, ready):
                lengths += row_lengths(rows, name, field)
        return lengths[ahead]

    def take(self, counts: Sequence[int]) -> list[list[Run]]:
        """Returns so many next rows of each source, which must be available."""
        runs = [reader.take(count) for reader, count in zip(self._readers, counts, strict=True)]
        for lengths, count in zip(self._lengths, counts, strict=True):
            del lengths[:count]
        return runs

    def skip(self, counts: Sequence[int]) -> None:
        """Steps over so many next rows of each source, as far as there are any."""
        for reader, count in zip(self._readers, counts, strict=True):
            reader.skip(count)


def _rows_between(reader: SourceReader, start: int, stop: int) -> list[Rows]:
    """Returns the rows `start` to `stop` of those that wait to be taken."""
    parts: list[Rows] = []
    for rows in reader.waiting():
        if start < len(rows):
            parts.append(slice_rows(rows, max(start, 0), min(stop, len(rows))))
        start, stop = start - len(rows), stop - len(rows)
        if stop <= 0:
            break
    return parts
