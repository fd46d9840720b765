"""Mixture: the recipe, the sources, the edits and the clock of a mixture in one value, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, final

from easydata_sources import State
from easydata_sources.types import Identity

from easydata_mix.errors import MixtureError
from easydata_mix.plan.clock import Clock
from easydata_mix.plan.planner import Planner
from easydata_mix.plan.recipe import Recipe
from easydata_mix.plan.share_curve import HORIZON
from easydata_mix.plan.simulation import TokenLengths, lengths_by_user
from easydata_mix.plan.steps import PlanPosition
from easydata_mix.plan.walk import KnownSources, Walk
from easydata_mix.plan.weight_edits import Journal
from easydata_mix.reading.passes import Passes
from easydata_mix.reading.position import MixturePosition, SourcePosition
from easydata_mix.reading.saved_state import check_mixture, position_from_dict, position_to_dict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@final
@dataclass(frozen=True, kw_only=True)
class Mixture:
    """All that the rows of a mixture depend on; a value, but for the journal, which all that share it write in."""

    recipe: Recipe
    passes: Passes
    journal: Journal
    clock: Clock = field(default_factory=Clock)
    provenance: bool = False
    """Whether every row names its source."""

    @property
    def names(self) -> Sequence[str]:
        """Names of the sources, in order."""
        return self.recipe.names

    @property
    def is_endless(self) -> bool:
        """Whether the rows never end: under `restart`, or because what they end with has no end."""
        if self.recipe.stop == "restart":
            return True
        endless = [self.passes.source(index).is_endless for index in self.recipe.drawn]
        return any(endless) if self.recipe.stop == "all_exhausted" else all(endless)

    def planner(self) -> Planner:
        """Returns the plan of this epoch.

        Raises:
            MixtureError: If the schedule counts in a unit whose rate is not bound.
        """
        self.recipe.require_clock(self.clock)
        return self._planner_from(self._clock_start())

    def known_walk(self, lengths: Mapping[str, TokenLengths] | None = None) -> Walk:
        """Returns a walk through the plan from its start; under `restart`, shares of rows need no lengths for it.

        Args:
            lengths: Tokens of the rows of each source, for shares of tokens; None = what the sources say of them.

        Raises:
            TypeError: If the length of a source is needed and not known.
            MixtureError: If the tokens of its rows are.
        """
        stop, weight_by = self.recipe.stop, self.recipe.weight_by
        if weight_by == "token":
            tokens = self.token_lengths(lengths)
            known = KnownSources(list(map(len, tokens)), stop=stop, tokens=tokens)
            return Walk(self.planner(), known, stop=stop, weight_by=weight_by)
        rows: list[int | None] = [None] * len(self.names)
        if stop != "restart":
            rows = [self.passes.known_rows(index) for index in range(len(self.names))]
        return Walk(self.planner(), KnownSources(rows, stop=stop), stop=stop)

    def epoch_rows(self) -> int:
        """Returns the rows of an epoch: of an endless mixture the sources' lengths together, else what is given.

        Raises:
            TypeError: If the length of a source is unknown.
            MixtureError: If a schedule decides the length and its clock is not bound.
        """
        return self._epoch_rows(self._clock_start())

    def token_lengths(self, lengths: Mapping[str, TokenLengths] | None = None) -> list[NDArray[np.integer]]:
        """Returns the tokens of every row of each source.

        Args:
            lengths: What a user said of them; None = what the sources say.

        Raises:
            MixtureError: If they are not known.
        """
        known = []
        for index, name in enumerate(self.names):
            own = self.passes.source(index).token_lengths() if lengths is None else lengths_by_user(lengths, name)
            if own is None:
                raise MixtureError(
                    f"The order of a mixture by tokens follows from the lengths of its rows, and those of {name!r} are "
                    "not known without reading. Mix sets that tokenize_and_save wrote, or simulate with lengths={…}."
                )
            known.append(own if own.ndim else own.repeat(self.passes.known_epoch_rows(index)))
        return known

    def identity(self) -> Identity:
        """Returns what the rows depend on: the sources' identities, the recipe, and the edits of the weights."""
        sources = {name: source.identity() for name, source in self.passes.sources.items()}
        order = self.passes.shuffle
        shuffle = order and {"seed": order.seed, "epoch": self.passes.epoch, "window_rows": order.window_rows}
        edits = self.journal.to_list()
        return {"mixture of": sources, **self.recipe.identity(), "shuffle": shuffle, "edits": edits}

    def start(self, planner: Planner) -> MixturePosition:
        """Returns the position before the first row."""
        sources = (SourcePosition(),) * len(self.names)
        return MixturePosition(plan=PlanPosition(begin=planner.start()), sources=sources)

    def save(self, position: MixturePosition) -> State:
        """Returns a position as it is saved."""
        return {
            "mixture": self._order_identity(),
            **position_to_dict(position, self.names),
            "journal": self.journal.to_list(),
            **self.clock.to_dict(),
        }

    def load(self, state: State) -> MixturePosition:
        """Returns the position of a saved state."""
        return position_from_dict(state, self.names)

    def restored(self, state: State) -> Mixture:
        """Returns the mixture with the clock of a saved state bound, its edits taken over into the journal.

        Raises:
            MixtureError: If the state is one of another mixture, or contradicts the edits or the clock.
        """
        position = self.load(state).plan
        check_mixture(state["mixture"], self._order_identity())
        mixture = replace(self, clock=self.clock.restored(state))
        settled = position.begin.row + (self.recipe.block_size if position.offset else 0)
        self.journal.replay(state["journal"], mixture._clock_start() + settled)
        return mixture

    def _order_identity(self) -> dict[str, Any]:
        order = self.passes.shuffle
        shuffle = order and [order.seed, self.passes.epoch, order.window_rows]
        return {**self.recipe.identity(), "shuffle": shuffle}

    def _planner_from(self, clock_start: int) -> Planner:
        return Planner(
            len(self.names),
            self.recipe.curves(self.clock),
            journal=self.journal,
            block_size=self.recipe.block_size,
            seed=self.recipe.seed,
            clock_start=clock_start,
        )

    def _clock_start(self) -> int:
        """Returns the rows of the epochs before this one; schedules and edits count them too."""
        rows = 0
        # Without lengths the rows of an epoch are unknown; only a schedule cannot do without them.
        if self.passes.shuffle and (self.recipe.scheduled or None not in self.passes.epoch_rows):
            for _ in range(self.passes.before):
                rows += self._epoch_rows(rows)
        return rows

    def _epoch_rows(self, clock_start: int) -> int:
        known = sum(self.passes.known_epoch_rows(index) for index in self.recipe.drawn)
        if self.is_endless or (self.recipe.stop == "all_exhausted" and not self.journal.to_list()):
            return known
        if self.recipe.weight_by == "token":
            raise TypeError(
                "How many rows a mixture by tokens gives until a source runs out is known only by their lengths. "
                "Give a number of steps (max_training_steps=…) instead of epochs."
            )
        stop = self.recipe.stop
        return Walk(self._planner_from(clock_start), KnownSources(self.passes.rows, stop=stop), stop=stop).skip(HORIZON)
