"""Latent attention: keys and values of all heads are read out of one narrow vector per token, which alone is kept.

Axis letters: B batch, T tokens, D dim, H heads, N key width without rope, P key width with rope, V value width, L width
of the latent, S settled slots.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from easydel_models.attention import attention
from easydel_models.errors import ConfigError
from easydel_models.layers.linear import linear, whole_kernel
from easydel_models.layers.mixer import Mixer
from easydel_models.layers.norms import NormConfig, rms_norm
from easydel_models.layers.parameter import ParameterSpec, linear_parameters
from easydel_models.layers.rope import RopeConfig, apply_rope
from easydel_models.layers.tokens import Memory, Step, Tokens

AXES = {
    "query": ("embed", "heads"),
    "query_down": ("embed", "latent"),
    "query_down_bias": ("latent",),
    "query_latent_norm": ("latent",),
    "query_up": ("latent", "heads"),
    "latent_down": ("embed", "latent"),
    "latent_down_bias": ("latent",),
    "rope_key": ("embed", "head"),
    "rope_key_bias": ("head",),
    "latent_norm": ("latent",),
    "key_up": ("latent", "heads"),
    "value_up": ("latent", "heads"),
    "output": ("heads", "embed"),
    "output_bias": ("width",),
}


@final
@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LatentAttention(Mixer):
    """Softmax attention over keys ``[key_up(latent), rope_key]``, whose part with rope all heads share.

    In decoding ``key_up`` is applied to the query instead, and ``value_up`` to the mean of latents, so that nothing is
    computed or kept for each head and token.

    References: DeepSeek-AI, DeepSeek-V2, 2024, https://arxiv.org/abs/2405.04434, section 2.1 and appendix C.
    """

    num_heads: int
    """Heads."""
    key_dim: int
    """Width of a head's query and key that does not turn."""
    rope_dim: int
    """Width of the part that turns."""
    value_dim: int
    """Width of a head's value."""
    latent_dim: int
    """Width of what is kept of a token, beside the part that turns."""
    query_latent_dim: int | None = None
    """Width of the vector that queries are read out of; None = queries come from the stream itself."""
    rope: RopeConfig = dataclasses.field(default_factory=RopeConfig)
    """Rotary position embedding."""
    scale: float | None = None
    """Factor on the scores; None = 1 / sqrt(key_dim + rope_dim)."""
    bias: bool = False
    """Whether the projections down and the output have biases."""
    publishes: str | None = None
    """See `Mixer`."""

    def __post_init__(self) -> None:
        """Refuses impossible sizes.

        Raises:
            ConfigError: Naming the field, its value and what is possible.
        """
        for name in ("num_heads", "key_dim", "rope_dim", "value_dim", "latent_dim"):
            if getattr(self, name) < 1:
                raise ConfigError(f"`{name}` of latent attention is {getattr(self, name)}; expected at least 1.")
        if self.rope_dim % 2:
            raise ConfigError(f"`rope_dim` is {self.rope_dim}; expected even, for rope.")
        widest = self.key_dim + self.rope_dim
        if self.value_dim > widest:
            raise ConfigError(f"`value_dim` is {self.value_dim}; expected at most key_dim + rope_dim = {widest}.")

    def parameters(self, dim: int, norm: NormConfig) -> dict[str, ParameterSpec]:
        """See `Mixer`."""
        queries = self.num_heads * (self.key_dim + self.rope_dim)
        if self.query_latent_dim is None:
            of_query = linear_parameters("query", dim, queries)
        else:
            of_query = {
                **linear_parameters("query_down", dim, self.query_latent_dim, bias=self.bias),
                "query_latent_norm": ParameterSpec(shape=(self.query_latent_dim,), kind="norm", init="ones"),
                **linear_parameters("query_up", self.query_latent_dim, queries),
            }
        return {
            **of_query,
            **linear_parameters("latent_down", dim, self.latent_dim, bias=self.bias),
            **linear_parameters("rope_key", dim, self.rope_dim, bias=self.bias),
            "latent_norm": ParameterSpec(shape=(self.latent_dim,), kind="norm", init="ones"),
            "key_up": self._up(self.key_dim),
            "value_up": self._up(self.value_dim),
            **linear_parameters("output", self.num_heads * self.value_dim, dim, bias=self.bias),
        }

    def ropes(self) -> tuple[tuple[RopeConfig, int], ...]:
        """See `Mixer`."""
        return ((self.rope, self.rope_dim),)

    def parts(self) -> Mapping[str, int]:
        """See `Mixer`."""
        return {"attention heads": self.num_heads}

    def score_width(self) -> int:
        """See `Mixer`."""
        return self.num_heads * (self.key_dim + self.rope_dim)

    def honours_prefixes(self) -> bool:
        """See `Mixer`."""
        return True

    def forward(
        self, layer: Mapping[str, Any], x: Float[Array, "B T D"], tokens: Tokens
    ) -> tuple[Float[Array, "B T D"], Memory]:
        """See `Mixer`."""
        still, turning = self._queries(layer, x, tokens)
        latent, rope_key = self._latents(layer, x, tokens)
        key = _split(linear(layer, "key_up", latent), self.key_dim)
        value = _split(linear(layer, "value_up", latent), self.value_dim)
        query = jnp.concatenate((still, turning), axis=-1)
        shared = jnp.broadcast_to(rope_key[:, :, None], (*key.shape[:3], self.rope_dim))
        key = jnp.concatenate((key, shared), axis=-1)
        # Attention takes values as wide as keys; what is added to them is cut off again.
        wide = jnp.pad(value, ((0, 0),) * 3 + ((0, key.shape[-1] - self.value_dim),))
        mixed = attention(
            query,
            tokens.exchange.of_whole_row(key),
            tokens.exchange.of_whole_row(wide),
            window=None if tokens.prefix_ids is not None else tokens.longest_segment,
            scale=self.scale,
            implementation=tokens.implementation,
            **tokens.mask_inputs,
        )[..., : self.value_dim]
        memory = Memory(by_token=(latent[:, None], rope_key[:, None]))
        return self._output(layer, mixed, tokens), memory

    def empty_memory(self, rows: int, slots: int, dtype: np.dtype) -> Memory:
        """See `Mixer`."""
        widths = (self.latent_dim, self.rope_dim)
        return Memory(by_token=tuple(jnp.zeros((rows, 1, slots, width), dtype) for width in widths))

    def looks_back(self) -> int | None:
        """See `Mixer`."""
        return None

    def step(
        self, layer: Mapping[str, Any], x: Float[Array, "B 1 D"], settled: Memory, recent: Memory, now: Step
    ) -> tuple[Float[Array, "B 1 D"], Memory]:
        """See `Mixer`."""
        still, turning = (array[:, 0] for array in self._queries(layer, x, now.tokens))
        new = (array[:, None] for array in self._latents(layer, x, now.tokens))
        recent = recent.entered(new, now.number)
        in_latent = jnp.einsum("bhn,lhn->bhl", still, self._by_head(layer, "key_up", self.key_dim, still.dtype))
        both = (settled.by_token, recent.by_token)
        scores = jnp.concatenate([_scores(in_latent, turning, *kept) for kept in both], axis=-1)
        scale = (self.key_dim + self.rope_dim) ** -0.5 if self.scale is None else self.scale
        old, fresh = settled.by_token[0].shape[2], recent.by_token[0].shape[2]
        seen = now.seen(old, fresh)[:, None]
        weights = jax.nn.softmax(jnp.where(seen, scores * jnp.float32(scale), -jnp.inf), axis=-1).astype(x.dtype)
        mean = _mean(weights[..., :old], settled.by_token[0]) + _mean(weights[..., old:], recent.by_token[0])
        value_up = self._by_head(layer, "value_up", self.value_dim, x.dtype)
        mixed = jnp.einsum("bhl,lhv->bhv", mean.astype(x.dtype), value_up)
        return self._output(layer, mixed[:, None], now.tokens), recent

    def _up(self, width: int) -> ParameterSpec:
        shape = (self.latent_dim, self.num_heads * width)
        return ParameterSpec(shape=shape, kind="kernel", heads=self.num_heads)

    def _queries(self, layer: Mapping[str, Any], x: Array, tokens: Tokens) -> tuple[Array, Array]:
        if self.query_latent_dim is None:
            query = linear(layer, "query", x)
        else:
            narrow = rms_norm(linear(layer, "query_down", x), layer["query_latent_norm"], tokens.norm.eps)
            query = linear(layer, "query_up", narrow)
        query = _split(query, self.key_dim + self.rope_dim)
        return query[..., : self.key_dim], self._turned(query[..., self.key_dim :], tokens)

    def _latents(self, layer: Mapping[str, Any], x: Array, tokens: Tokens) -> tuple[Array, Array]:
        latent = rms_norm(linear(layer, "latent_down", x), layer["latent_norm"], tokens.norm.eps)
        return latent, self._turned(linear(layer, "rope_key", x)[:, :, None], tokens)[:, :, 0]

    def _turned(self, x: Float[Array, "B T H P"], tokens: Tokens) -> Array:
        cos, sin = tokens.ropes[self.rope, self.rope_dim]
        return apply_rope(x, cos, sin, interleaved=self.rope.interleaved)

    def _output(self, layer: Mapping[str, Any], mixed: Float[Array, "B T H V"], tokens: Tokens) -> Array:
        return linear(layer, "output", mixed.reshape(*mixed.shape[:2], -1), tokens.exchange)

    def _by_head(self, layer: Mapping[str, Any], name: str, width: int, dtype: Any) -> Float[Array, "L H W"]:
        return whole_kernel(layer, name, dtype).reshape(self.latent_dim, -1, width)


def _split(x: Float[Array, "B T HW"], width: int) -> Float[Array, "B T H W"]:
    return x.reshape(*x.shape[:2], -1, width)


def _scores(
    in_latent: Float[Array, "B H L"], turning: Float[Array, "B H P"], latents: Array, rope_keys: Array
) -> Float[Array, "B H S"]:
    of_latent = jnp.einsum("bhl,bsl->bhs", in_latent, latents[:, 0], preferred_element_type=jnp.float32)
    return of_latent + jnp.einsum("bhp,bsp->bhs", turning, rope_keys[:, 0], preferred_element_type=jnp.float32)


def _mean(weights: Float[Array, "B H S"], latents: Float[Array, "B 1 S L"]) -> Float[Array, "B H L"]:
    return jnp.einsum("bhs,bsl->bhl", weights, latents[:, 0], preferred_element_type=jnp.float32)
