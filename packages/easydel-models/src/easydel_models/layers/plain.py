"""The plain feed-forward: one projection up, a non-linearity, one projection down."""

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


@final
@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Plain(FeedForward):
    """``down(act(up(x)))``; its parameters are called as those of `easydel_models.layers.gated`.

    References: Vaswani et al., Attention Is All You Need, 2017, https://arxiv.org/abs/1706.03762, eq. 2.
    """

    width: int
    """Inner width."""
    activation: Activation = "gelu_tanh"
    """Non-linearity."""
    bias: bool = True
    """Whether the two projections have biases."""

    def parameters(self, dim: int, norm: NormConfig) -> dict[str, ParameterSpec]:
        """See `FeedForward`."""
        return {
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
        inner = activate(linear(layer, "up", x), self.activation)
        return linear(layer, "down", inner, tokens.exchange), None
