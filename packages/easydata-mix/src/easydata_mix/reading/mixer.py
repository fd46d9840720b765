"""The mixer: fills the steps of a plan with rows of the sources."""

from __future__ import annotations

from typing import final

from easydata_mix.plan.planner import Planner
from easydata_mix.plan.stepper import Stepper
from easydata_mix.plan.walk import KnownSources, Walk
from easydata_mix.reading.mixed_chunk import MixedChunk
from easydata_mix.reading.mixture import Mixture
from easydata_mix.reading.position import MixturePosition
from easydata_mix.reading.source_readers import SourceReaders

CHUNK_ROWS = 1024
"""Most rows in a chunk, unless weights are shares of tokens: then a chunk is a block."""


@final
class Mixer:
    """Reads a mixture chunk by chunk.

    Args:
        mixture: The mixture.
        planner: Its plan.
        position: Where to begin.
    """

    def __init__(self, mixture: Mixture, planner: Planner, position: MixturePosition) -> None:
        self._mixture = mixture
        self._planner = planner
        self._begin(position)

    @property
    def position(self) -> MixturePosition:
        """Position after the chunks read so far."""
        return MixturePosition(plan=self._stepper.position, sources=self._sources.positions)

    def read(self, most: int = CHUNK_ROWS) -> MixedChunk | None:
        """Returns the next chunk, of at most `most` rows; None at the end of the mixture."""
        while (step := self._stepper.next(most)) is not None:
            self._planner.settle(self._stepper.planned_rows)
            before = self.position
            try:
                chunk = MixedChunk.of(self._mixture, step, before.sources, self._sources.take(step.counts))
            except Exception:
                # Rows that cannot be joined have left their readers; asked again, the mixer must come to them again.
                self._begin(before)
                raise
            self._stepper.advance(step)
            if len(chunk.rows):
                return chunk
        return None

    def skip(self, rows: int) -> int:
        """Steps over rows and returns how many there were; by arithmetic where the sources' lengths allow."""
        recipe = self._mixture.recipe
        lengths = self._mixture.passes.rows if recipe.stop != "restart" else [None] * len(self._mixture.names)
        if recipe.weight_by == "token" or (recipe.stop != "restart" and None in lengths):
            return self._read_over(rows)
        before = self.position
        known = KnownSources(lengths, stop=recipe.stop, drawn=[position.row for position in before.sources])
        walk = Walk(self._planner, known, stop=recipe.stop, position=before.plan)
        skipped = walk.skip(rows)
        drawn = [now - position.row for now, position in zip(walk.drawn, before.sources, strict=True)]
        self._sources.skip(drawn)
        self._stepper.position = walk.position
        self._planner.settle_at(walk.position)
        return skipped

    def _begin(self, position: MixturePosition) -> None:
        recipe = self._mixture.recipe
        self._sources = SourceReaders(self._mixture, position.sources)
        self._stepper = Stepper(
            self._planner, self._sources, stop=recipe.stop, weight_by=recipe.weight_by, position=position.plan
        )

    def _read_over(self, rows: int) -> int:
        skipped = 0
        while skipped < rows:
            chunk = self.read(min(rows - skipped, CHUNK_ROWS))
            if chunk is None:
                break
            if skipped + len(chunk.rows) > rows:
                self._begin(chunk.position_after(rows - skipped))
                return rows
            skipped += len(chunk.rows)
        return skipped
