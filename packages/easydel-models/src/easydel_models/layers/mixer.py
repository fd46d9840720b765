"""What a kind of mixer must provide: the half of a layer in which tokens see each other."""

import abc
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from easydel_models.layers.norms import NormConfig
from easydel_models.layers.parameter import ParameterSpec
from easydel_models.layers.rope import RopeConfig
from easydel_models.layers.tokens import Memory, Step, Tokens


class Mixer(abc.ABC):
    """A kind of mixer; its final implementations are frozen dataclasses whose fields are the kind's options.

    All methods are pure functions of the options and the arrays they are given. Names of parameters are those of the
    kind's table of logical axes (`easydel_models.mesh.partitioning`).
    """

    __slots__ = ()

    publishes: str | None
    """Name under which later layers find this one's memory; None = nobody asks."""

    @abc.abstractmethod
    def parameters(self, dim: int, norm: NormConfig) -> dict[str, ParameterSpec]:
        """Returns the parameters of one layer, by name; ``dim`` is the width of the residual stream."""

    @abc.abstractmethod
    def ropes(self) -> tuple[tuple[RopeConfig, int], ...]:
        """Returns the ropes it looks up in `Tokens.ropes`, each with the width of the heads it turns."""

    @abc.abstractmethod
    def parts(self) -> Mapping[str, int]:
        """Returns what `tp` cuts, in words for a message, with the number that it has to divide."""

    @abc.abstractmethod
    def forward(
        self, layer: Mapping[str, Any], x: Float[Array, "B T D"], tokens: Tokens
    ) -> tuple[Float[Array, "B T D"], Memory]:
        """Returns what is added to the residual stream, and what later tokens need of these.

        A token sees tokens of its own document alone, at or before itself, and those of its prefix. Padding (segment
        0) may come on either side: it is seen by nobody, and what ``by_row`` keeps is as of the last real token.
        """

    @abc.abstractmethod
    def empty_memory(self, rows: int, slots: int, dtype: np.dtype) -> Memory:
        """Returns the memory of rows that have read nothing; what is in a slot that is not used is never seen."""

    @abc.abstractmethod
    def step(
        self, layer: Mapping[str, Any], x: Float[Array, "B 1 D"], settled: Memory, recent: Memory, now: Step
    ) -> tuple[Float[Array, "B 1 D"], Memory]:
        """Returns what one more token of every row adds to the residual stream, and ``recent`` with it entered.

        ``settled.by_token`` holds the tokens before this block and is only read; ``recent.by_token`` those of this
        block, all rows in the same slots. ``recent.by_row`` is as of the token before.
        """

    @abc.abstractmethod
    def looks_back(self) -> int | None:
        """Returns how many of the newest tokens a token sees, itself included; None = all there are."""

    @abc.abstractmethod
    def score_width(self) -> int:
        """Query heads times their width, where every token is scored against every one it sees; 0 where none is."""

    @abc.abstractmethod
    def honours_prefixes(self) -> bool:
        """Returns whether a token can see a document besides its own (`Tokens.prefix_ids`)."""
