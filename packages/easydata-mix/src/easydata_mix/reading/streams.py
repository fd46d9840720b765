"""The streams of a mixture: rows or record batches, with one dialect of positions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import final

from easydata_sources import RowStream, State
from easydata_sources.rows import Row, rows_as_dicts
from easydata_sources.streams import Chunk, ChunkReader, Place

from easydata_mix.reading.mixed_chunk import MixedChunk
from easydata_mix.reading.mixer import Mixer
from easydata_mix.reading.mixture import Mixture
from easydata_mix.reading.position import MixturePosition


@final
class MixedRowStream(RowStream):
    """Dict rows of a mixture."""

    def __init__(self, mixture: Mixture, position: MixturePosition) -> None:
        self._mixture = mixture
        self._mixer = Mixer(mixture, mixture.planner(), position, columns=False)
        self._chunk: MixedChunk | None = None
        self._rows: list[Row] = []
        self._given = 0

    def __next__(self) -> Row:
        if self._given == len(self._rows):
            chunk = self._mixer.read()
            if chunk is None:
                raise StopIteration
            self._chunk, self._rows, self._given = chunk, rows_as_dicts(chunk.rows), 0
        row = self._rows[self._given]
        self._given += 1
        return row

    def state(self) -> State:
        if self._chunk is None:
            return self._mixture.save(self._mixer.position)
        return self._chunk.state_after(self._given)

    def skip(self, rows: int) -> int:
        here = min(rows, len(self._rows) - self._given)
        self._given += here
        if here == rows:
            return rows
        self._chunk, self._rows, self._given = None, [], 0
        return here + self._mixer.skip(rows - here)

    def origin(self) -> Place:
        if self._chunk is None or not self._given:
            return super().origin()
        return self._chunk.place(self._given - 1)


@final
class MixedReader(ChunkReader):
    """The chunks of a mixture; those of sources with columns are record batches.

    Args:
        mixture: The mixture.
    """

    def __init__(self, mixture: Mixture) -> None:
        self._mixture = mixture
        self._planner = mixture.planner()

    def chunks(self, start: State) -> Iterator[Chunk]:
        mixer = self._mixer(start)
        while (chunk := mixer.read()) is not None:
            yield chunk.as_chunk()

    def seek(self, start: State, rows: int) -> tuple[State, int]:
        mixer = self._mixer(start)
        skipped = mixer.skip(rows)
        return self._mixture.save(mixer.position), skipped

    def _mixer(self, start: State) -> Mixer:
        return Mixer(self._mixture, self._planner, self._mixture.load(start), columns=True)
