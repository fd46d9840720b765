"""The streams of a mixture: rows or record batches, with one dialect of positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from easydata_sources import RowStream, State
from easydata_sources.rows import Row, rows_as_dicts
from easydata_sources.streams import Chunk, ChunkReader, Place

from easydata_mix.reading.mixer import Mixer, MixturePosition, Reading
from easydata_mix.reading.token_mixer import TokenMixer


class MixedRowStream(RowStream):
    """Dict rows of a mixture."""

    def __init__(self, reading: Reading, position: MixturePosition) -> None:
        self._mixer = make_mixer(reading, position, columns=False)
        self._save = reading.save
        self._chunk: Chunk | None = None
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
        return self._save(self._mixer.position) if self._chunk is None else self._chunk.state_after(self._given)

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


class MixedReader(ChunkReader):
    """The chunks of a mixture; those of sources with columns are record batches.

    Args:
        reading: The mixture.
        load: Turns a saved state into a position.
    """

    def __init__(self, reading: Reading, load: Callable[[State], MixturePosition]) -> None:
        self._reading = reading
        self._load = load

    def chunks(self, start: State) -> Iterator[Chunk]:
        mixer = make_mixer(self._reading, self._load(start), columns=True)
        while (chunk := mixer.read()) is not None:
            yield chunk

    def seek(self, start: State, rows: int) -> tuple[State, int]:
        mixer = make_mixer(self._reading, self._load(start), columns=True)
        skipped = mixer.skip(rows)
        return self._reading.save(mixer.position), skipped


def make_mixer(reading: Reading, position: MixturePosition, *, columns: bool) -> Mixer | TokenMixer:
    """Return what reads the mixture chunk by chunk."""
    kind = TokenMixer if reading.weight_by == "token" else Mixer
    return kind(reading, position, columns=columns)
