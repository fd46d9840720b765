"""The short-convolution mixer: a gated convolution over the last few tokens instead of attention.

Axis letters: B batch, T tokens, D dim, W taps.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from easydel_models.errors import ConfigError
from easydel_models.layers.linear import linear
from easydel_models.layers.mixer import Mixer
from easydel_models.layers.norms import NormConfig
from easydel_models.layers.parameter import ParameterSpec, linear_parameters
from easydel_models.layers.rope import RopeConfig
from easydel_models.layers.tokens import Memory, Step, Tokens
from easydel_models.recurrent.convolution import short_convolution
from easydel_models.recurrent.documents import Documents, one_token_further, running_documents

AXES = {
    "before_gate": ("embed", "heads"),
    "before_gate_bias": ("heads",),
    "after_gate": ("embed", "heads"),
    "after_gate_bias": ("heads",),
    "convolved": ("embed", "heads"),
    "convolved_bias": ("heads",),
    "convolution": ("taps", "heads"),
    "convolution_bias": ("heads",),
    "convolution_output": ("heads", "embed"),
    "convolution_output_bias": ("width",),
}


@final
@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ShortConvolution(Mixer):
    """``convolution_output(after_gate(x) * convolution(before_gate(x) * convolved(x)))``, every channel for itself.

    References: Liquid AI, LFM2 Technical Report, 2025, https://arxiv.org/abs/2511.23404.
    """

    width: int
    """Channels."""
    taps: int = 3
    """Tokens that the convolution sees, its own included."""
    bias: bool = False
    """Whether projections and convolution have biases."""
    publishes: str | None = None
    """See `Mixer`."""

    def __post_init__(self) -> None:
        """Refuses impossible sizes.

        Raises:
            ConfigError: Naming the field, its value and what is possible.
        """
        if self.width < 1 or self.taps < 1:
            raise ConfigError(f"A convolution of {self.width} channels and {self.taps} taps; expected at least 1.")

    def parameters(self, dim: int, norm: NormConfig) -> dict[str, ParameterSpec]:
        """See `Mixer`."""
        bias = {"convolution_bias": ParameterSpec(shape=(self.width,), kind="bias", init="zeros")} if self.bias else {}
        return {
            **linear_parameters("before_gate", dim, self.width, bias=self.bias),
            **linear_parameters("after_gate", dim, self.width, bias=self.bias),
            **linear_parameters("convolved", dim, self.width, bias=self.bias),
            "convolution": ParameterSpec(shape=(self.taps, self.width), kind="other"),
            **bias,
            **linear_parameters("convolution_output", self.width, dim, bias=self.bias),
        }

    def ropes(self) -> tuple[tuple[RopeConfig, int], ...]:
        """See `Mixer`."""
        return ()

    def parts(self) -> Mapping[str, int]:
        """See `Mixer`."""
        return {"channels of the convolution": self.width}

    def forward(
        self, layer: Mapping[str, Any], x: Float[Array, "B T D"], tokens: Tokens
    ) -> tuple[Float[Array, "B T D"], Memory]:
        """See `Mixer`."""
        exchange, rows = tokens.exchange, x.shape[0]
        segment_ids = jnp.ones(x.shape[:2], jnp.int32) if tokens.segment_ids is None else tokens.segment_ids
        documents = running_documents(exchange.of_whole_row(segment_ids), jnp.zeros(rows, jnp.int32))
        inputs = exchange.of_whole_row(linear(layer, "before_gate", x) * linear(layer, "convolved", x))
        state = jnp.zeros((rows, self.taps - 1, inputs.shape[-1]), x.dtype)
        out, state = self._convolved(layer, inputs, documents, state)
        return self._output(layer, x, exchange.own_tokens(out), tokens), Memory(by_row=(state,))

    def empty_memory(self, rows: int, slots: int, dtype: np.dtype) -> Memory:
        """See `Mixer`."""
        return Memory(by_row=(jnp.zeros((rows, self.taps - 1, self.width), dtype),))

    def looks_back(self) -> int | None:
        """See `Mixer`."""
        return None

    def step(
        self, layer: Mapping[str, Any], x: Float[Array, "B 1 D"], settled: Memory, recent: Memory, now: Step
    ) -> tuple[Float[Array, "B 1 D"], Memory]:
        """See `Mixer`."""
        inputs = linear(layer, "before_gate", x) * linear(layer, "convolved", x)
        out, state = self._convolved(layer, inputs, one_token_further(x.shape[0]), recent.by_row[0])
        return self._output(layer, x, out, now.tokens), Memory(by_row=(state,))

    def score_width(self) -> int:
        """See `Mixer`: nothing is computed for pairs of tokens."""
        return 0

    def honours_prefixes(self) -> bool:
        """See `Mixer`: a state holds one past, not that of several answers."""
        return False

    def _convolved(
        self, layer: Mapping[str, Any], inputs: Array, documents: Documents, state: Array
    ) -> tuple[Array, Array]:
        bias = layer.get("convolution_bias")
        return short_convolution(inputs, layer["convolution"], bias, documents=documents, state=state)

    def _output(self, layer: Mapping[str, Any], x: Array, convolved: Array, tokens: Tokens) -> Array:
        return linear(layer, "convolution_output", linear(layer, "after_gate", x) * convolved, tokens.exchange)
