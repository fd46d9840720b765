"""One decoder layer: a mixer and a feed-forward on a residual stream, and where the norms are.

Axis letters: B batch, T tokens, D dim.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from easydel_models.layers.activations import Activation, activate
from easydel_models.layers.feed_forward import FeedForward, Routing
from easydel_models.layers.linear import linear
from easydel_models.layers.mixer import Mixer
from easydel_models.layers.norms import NormConfig, normed
from easydel_models.layers.parameter import ParameterSpec, linear_parameters
from easydel_models.layers.tokens import Memory, Tokens

AXES = {
    "attention_norm": ("width",),
    "attention_norm_bias": ("width",),
    "attention_post_norm": ("width",),
    "mlp_norm": ("width",),
    "mlp_norm_bias": ("width",),
    "mlp_post_norm": ("width",),
    "layer_scalar": ("one",),
    "own_input_gate": ("embed", "own_input"),
    "own_input_projection": ("own_input", "embed"),
    "own_input_norm": ("width",),
}
OWN_INPUT = "own_input"
"""Name, among a layer's parameters, of what it alone is told of each token, [B, T, P]."""
Norms = Literal["pre", "post", "sandwich", "parallel"]
_NAMES: Mapping[Norms, tuple[str, ...]] = {
    "pre": ("attention_norm", "mlp_norm"),
    "post": ("attention_post_norm", "mlp_post_norm"),
    "sandwich": ("attention_norm", "attention_post_norm", "mlp_norm", "mlp_post_norm"),
    "parallel": ("attention_norm",),
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LayerConfig:
    """What one layer is made of."""

    mixer: Mixer
    """The half in which tokens see each other."""
    feed_forward: FeedForward
    """The half that looks at each token by itself."""
    norms: Norms = "pre"
    """``pre``: before each half; ``post``: after each half, before it is added; ``sandwich``: both; ``parallel``: one
    before both halves, which are added together."""
    residual_scale: float = 1.0
    """Factor on what each half adds to the stream."""
    own_input: int = 0
    """Width of what the layer alone is told of each token, which a gate lets into the stream; 0 = nothing."""
    own_activation: Activation = "gelu_tanh"
    """Non-linearity of that gate."""
    scalar: bool = False
    """Whether the stream is multiplied by a stored number in the end, which is never trained."""

    def parameters(self, dim: int, norm: NormConfig) -> dict[str, ParameterSpec]:
        """Returns the parameters of one such layer, by name; ``dim`` is the width of the residual stream."""
        specs: dict[str, ParameterSpec] = {}
        for name in _NAMES[self.norms]:
            specs |= norm.parameters(name, dim)
        specs |= self.mixer.parameters(dim, norm) | self.feed_forward.parameters(dim, norm)
        if self.own_input:
            specs |= linear_parameters("own_input_gate", dim, self.own_input)
            specs |= linear_parameters("own_input_projection", self.own_input, dim)
            specs |= norm.parameters("own_input_norm", dim)
        if self.scalar:
            specs["layer_scalar"] = ParameterSpec(shape=(1,), kind="other", init="ones", buffer=True)
        return specs


class LayerResult(NamedTuple):
    """What a layer leaves behind."""

    x: Float[Array, "B T D"]
    """The residual stream after it."""
    memory: Memory
    """What later tokens need of these."""
    routing: Routing | None
    """How its experts were chosen; None = it has none."""


Mix = Callable[[Float[Array, "B T D"]], tuple[Float[Array, "B T D"], Memory]]


def layer_forward(
    config: LayerConfig, layer: Mapping[str, Any], x: Float[Array, "B T D"], tokens: Tokens, mix: Mix | None = None
) -> LayerResult:
    """Returns the residual stream after one layer.

    Args:
        config: What the layer is made of.
        layer: Its parameters, by name.
        x: The residual stream.
        tokens: Where its tokens stand.
        mix: The mixer on activations after the norm; None = its forward pass over whole rows.
    """
    mixer, feed_forward = config.mixer, config.feed_forward

    def before(name: str, x: Array) -> Array:
        return normed(layer, name, x, tokens.norm) if name in layer else x

    def added(x: Array, half: Array, name: str) -> Array:
        half = normed(layer, name, half, tokens.norm) if name in layer else half
        return x + (half if config.residual_scale == 1.0 else half * jnp.asarray(config.residual_scale, half.dtype))

    inner = before("attention_norm", x)
    mixed, memory = mixer.forward(layer, inner, tokens) if mix is None else mix(inner)
    if config.norms == "parallel":
        out, routing = feed_forward.forward(layer, inner, tokens, x)
        return LayerResult(added(x, mixed + out, ""), memory, routing)
    x = added(x, mixed, "attention_post_norm")
    out, routing = feed_forward.forward(layer, before("mlp_norm", x), tokens, x)
    x = added(x, out, "mlp_post_norm")
    if config.own_input:
        inner = activate(linear(layer, "own_input_gate", x), config.own_activation) * layer[OWN_INPUT].astype(x.dtype)
        x = x + normed(layer, "own_input_norm", linear(layer, "own_input_projection", inner), tokens.norm)
    if config.scalar:
        x = x * jax.lax.stop_gradient(layer["layer_scalar"]).astype(x.dtype)[None, None, :]
    return LayerResult(x, memory, routing)
