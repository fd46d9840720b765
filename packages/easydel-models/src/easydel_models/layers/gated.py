"""The gated feed-forward: two projections up, one of which is the other's gate, and one down."""

import dataclasses
from collections.abc import Mapping
from typing import Any, final

from jaxtyping import Array, Float

from easydel_models.layers.activations import Activation, activate
from easydel_models.layers.feed_forward import FeedForward
from easydel_models.layers.linear import linear
from easydel_models.layers.norms import NormConfig
from easydel_models.layers.parameter import ParameterSpec, linear_parameters
from easydel_models.layers.tokens import Tokens

AXES = {
    "gate": ("embed", "mlp"),
    "gate_bias": ("mlp",),
    "up": ("embed", "mlp"),
    "up_bias": ("mlp",),
    "down": ("mlp", "embed"),
    "down_bias": ("width",),
}


@final
@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Gated(FeedForward):
    """``down(act(gate(x)) * up(x))``.

    References: Shazeer, GLU Variants Improve Transformer, 2020, https://arxiv.org/abs/2002.05202, eq. 6.
    """

    width: int
    """Inner width."""
    activation: Activation = "silu"
    """Non-linearity of the gate."""
    bias: bool = False
    """Whether the three projections have biases."""

    def parameters(self, dim: int, norm: NormConfig) -> dict[str, ParameterSpec]:
        """See `FeedForward`."""
        return {
            **linear_parameters("gate", dim, self.width, bias=self.bias),
            **linear_parameters("up", dim, self.width, bias=self.bias),
            **linear_parameters("down", self.width, dim, bias=self.bias),
        }

    def parts(self) -> Mapping[str, int]:
        """See `FeedForward`."""
        return {"mlp_dim": self.width}

    def num_experts(self) -> int:
        """See `FeedForward`."""
        return 0

    def experts_per_token(self) -> int:
        """See `FeedForward`."""
        return 0

    def forward(
        self, layer: Mapping[str, Any], x: Float[Array, "B T D"], tokens: Tokens, residual: Float[Array, "B T D"]
    ) -> tuple[Float[Array, "B T D"], None]:
        """See `FeedForward`."""
        inner = activate(linear(layer, "gate", x), self.activation) * linear(layer, "up", x)
        return linear(layer, "down", inner, tokens.exchange), None
