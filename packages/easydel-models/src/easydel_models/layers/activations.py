"""Non-linearities, by the names that configurations use."""

from typing import Literal

import jax
from jaxtyping import Array, Float

Activation = Literal["silu", "gelu", "gelu_tanh"]


def activate(x: Float[Array, "..."], activation: Activation) -> Float[Array, "..."]:
    """Returns the non-linearity of every number; ``gelu_tanh`` is the approximation by tanh."""
    if activation == "silu":
        return jax.nn.silu(x)
    return jax.nn.gelu(x, approximate=activation == "gelu_tanh")
