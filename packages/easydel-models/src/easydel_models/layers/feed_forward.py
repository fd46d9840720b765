"""What a kind of feed-forward must provide: the half of a layer that looks at each token by itself."""

import abc
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxtyping import Array, Float

from easydel_models.layers.norms import NormConfig
from easydel_models.layers.parameter import ParameterSpec
from easydel_models.layers.tokens import Tokens


class Routing(NamedTuple):
    """How a layer of experts spread its tokens, as sums over real tokens, so that a step can be split."""

    chosen: Float[Array, " E"]
    """How often each expert was chosen; no gradient passes."""
    probability: Float[Array, " E"]
    """Sum of the probability that the router gave each expert."""
    tokens: Float[Array, ""]
    """Real tokens."""


class FeedForward(abc.ABC):
    """A kind of feed-forward; its final implementations are frozen dataclasses whose fields are the kind's options."""

    __slots__ = ()

    @abc.abstractmethod
    def parameters(self, dim: int, norm: NormConfig) -> dict[str, ParameterSpec]:
        """Returns the parameters of one layer, by name; ``dim`` is the width of the residual stream."""

    @abc.abstractmethod
    def parts(self) -> Mapping[str, int]:
        """Returns what `tp` cuts, in words for a message, with the number that it has to divide."""

    @abc.abstractmethod
    def num_experts(self) -> int:
        """Returns the number of experts, which `ep` cuts; 0 = there are none."""

    @abc.abstractmethod
    def experts_per_token(self) -> int:
        """Returns how many of them each token goes to."""

    @abc.abstractmethod
    def forward(
        self, layer: Mapping[str, Any], x: Float[Array, "B T D"], tokens: Tokens, residual: Float[Array, "B T D"]
    ) -> tuple[Float[Array, "B T D"], Routing | None]:
        """Returns what is added to the residual stream, and how tokens were routed (None = there is no router).

        Used for training and, one token at a time, for decoding. ``x`` is after the norm before this half, ``residual``
        the stream itself.
        """
