"""The attention mixer: queries look up keys and take the mean of values, with the options that families differ in.

Axis letters: B batch, T tokens, D dim, H query heads, G key/value heads, R query heads per key/value head, K head_dim,
S settled slots.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from easydel_models.attention import attention
from easydel_models.errors import ConfigError
from easydel_models.layers.linear import linear
from easydel_models.layers.mixer import Mixer
from easydel_models.layers.norms import NormConfig, rms_norm
from easydel_models.layers.parameter import ParameterSpec, linear_parameters
from easydel_models.layers.rope import RopeConfig, apply_rope
from easydel_models.layers.tokens import Memory, Step, Tokens

AXES = {
    "query": ("embed", "heads"),
    "query_bias": ("heads",),
    "key": ("embed", "kv_heads"),
    "key_bias": ("kv_heads",),
    "value": ("embed", "kv_heads"),
    "value_bias": ("kv_heads",),
    "output": ("heads", "embed"),
    "output_bias": ("width",),
    "query_norm": ("width",),
    "key_norm": ("width",),
    "sinks": ("heads",),
}


@final
@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Attention(Mixer):
    """Softmax attention with grouped heads."""

    num_heads: int
    """Query heads."""
    num_kv_heads: int
    """Key and value heads; divides `num_heads`."""
    head_dim: int
    """Width of a head."""
    rope: RopeConfig | None = dataclasses.field(default_factory=RopeConfig)
    """Rotary position embedding; None = none."""
    window: int | None = None
    """Tokens a query sees, itself included; None = all before it."""
    qkv_bias: bool = False
    """Whether query, key and value projections have biases."""
    output_bias: bool = False
    """Whether the output projection has one."""
    qk_norm: Literal["head", "all"] | None = None
    """RMS norm of queries and keys before rope: over each ``head``, or over ``all`` heads together."""
    scale: float | None = None
    """Factor on the scores; None = 1 / sqrt(head_dim)."""
    softcap: float | None = None
    """Bound on the magnitude of the scores; None = no bound."""
    value_norm: bool = False
    """RMS norm, without a weight, of each head's values."""
    key_is_value: bool = False
    """Whether values are what keys are before their norm and rope: there is no value projection."""
    shares: str | None = None
    """Name under which an earlier layer published the keys and values that this one looks up; None = it has its own."""
    sinks: bool = False
    """Whether each head has a score without a value that takes part in its softmax."""
    gated: bool = False
    """Whether what a head gives is multiplied by the sigmoid of a gate, which the query projection holds behind each
    head's query."""
    query_growth: float = 0.0
    """Queries are multiplied by ``1 + query_growth * log(1 + position // rope.original_max_positions)``; 0 = never."""
    publishes: str | None = None
    """See `Mixer`."""

    def __post_init__(self) -> None:
        """Refuses impossible sizes.

        Raises:
            ConfigError: Naming the field, its value and what is possible.
        """
        for name in ("num_heads", "num_kv_heads", "head_dim"):
            if getattr(self, name) < 1:
                raise ConfigError(f"`{name}` is {getattr(self, name)}; expected at least 1.")
        if self.num_heads % self.num_kv_heads:
            raise ConfigError(
                f"`num_kv_heads` is {self.num_kv_heads}; expected a divisor of num_heads={self.num_heads}."
            )
        if self.rope is not None and self.rope.rotary_dims(self.head_dim) % 2:
            raise ConfigError(f"`head_dim` is {self.head_dim}; expected even, for rope.")
        if self.window is not None and self.window < 1:
            raise ConfigError(f"`sliding_window` is {self.window}; expected at least 1, or None for no window.")

    def parameters(self, dim: int, norm: NormConfig) -> dict[str, ParameterSpec]:
        """See `Mixer`."""
        queries, keys = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        specs = linear_parameters("query", dim, 2 * queries if self.gated else queries, bias=self.qkv_bias)
        if self.shares is None:
            specs |= linear_parameters("key", dim, keys, bias=self.qkv_bias)
        if self.shares is None and not self.key_is_value:
            specs |= linear_parameters("value", dim, keys, bias=self.qkv_bias)
        specs |= linear_parameters("output", queries, dim, bias=self.output_bias)
        if self.qk_norm is not None:
            whole = self.qk_norm == "all"
            specs |= norm.parameters("query_norm", queries if whole else self.head_dim)
            specs |= {} if self.shares else norm.parameters("key_norm", keys if whole else self.head_dim)
        if self.sinks:
            specs["sinks"] = ParameterSpec(shape=(self.num_heads,), kind="other")
        return specs

    def ropes(self) -> tuple[tuple[RopeConfig, int], ...]:
        """See `Mixer`."""
        return () if self.rope is None else ((self.rope, self.head_dim),)

    def parts(self) -> Mapping[str, int]:
        """See `Mixer`."""
        return {"attention heads": self.num_heads, "key/value heads": self.num_kv_heads}

    def score_width(self) -> int:
        """See `Mixer`."""
        return self.num_heads * self.head_dim

    def honours_prefixes(self) -> bool:
        """See `Mixer`."""
        return True

    def forward(
        self, layer: Mapping[str, Any], x: Float[Array, "B T D"], tokens: Tokens
    ) -> tuple[Float[Array, "B T D"], Memory]:
        """See `Mixer`."""
        query, gate = self._queries(layer, x, tokens)
        memory = self._keys_and_values(layer, x, tokens) if self.shares is None else tokens.shared[self.shares]
        key, value = (tokens.exchange.of_whole_row(array.swapaxes(1, 2)) for array in memory.by_token)
        mixed = attention(
            query,
            key,
            value,
            window=self._window(tokens),
            scale=self.scale,
            softcap=self.softcap,
            sinks=layer["sinks"] if self.sinks else None,
            implementation=tokens.implementation,
            **tokens.mask_inputs,
        )
        return self._output(layer, mixed, gate, tokens), memory if self.shares is None else Memory()

    def empty_memory(self, rows: int, slots: int, dtype: np.dtype) -> Memory:
        """See `Mixer`."""
        if self.shares is not None:
            return Memory()
        shape = (rows, self.num_kv_heads, slots, self.head_dim)
        return Memory(by_token=(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)))

    def looks_back(self) -> int | None:
        """See `Mixer`."""
        return self.window

    def step(
        self, layer: Mapping[str, Any], x: Float[Array, "B 1 D"], settled: Memory, recent: Memory, now: Step
    ) -> tuple[Float[Array, "B 1 D"], Memory]:
        """See `Mixer`."""
        query, gate = self._queries(layer, x, now.tokens)
        if self.shares is not None:
            mixed = self._attend_over(layer, query, *now.shared[self.shares], now)
            return self._output(layer, mixed, gate, now.tokens), recent
        recent = recent.entered(self._keys_and_values(layer, x, now.tokens).by_token, now.number)
        mixed = self._attend_over(layer, query, settled, recent, now)
        return self._output(layer, mixed, gate, now.tokens), recent

    def _queries(self, layer: Mapping[str, Any], x: Array, tokens: Tokens) -> tuple[Array, Array | None]:
        """Queries [B, T, H, K] as attention takes them, and the gate of what it gives."""
        query, gate = linear(layer, "query", x), None
        if self.gated:
            query, gate = jnp.split(query.reshape(*x.shape[:2], -1, 2 * self.head_dim), 2, axis=-1)
        query = self._placed(layer, "query_norm", query, tokens)
        if self.query_growth and self.rope is not None:
            lengths = jnp.floor_divide(tokens.positions, jnp.int32(self.rope.original_max_positions))
            growth = 1 + jnp.float32(self.query_growth) * jnp.log1p(lengths.astype(jnp.float32))
            query = query * growth[:, :, None, None].astype(query.dtype)
        return query, gate

    def _keys_and_values(self, layer: Mapping[str, Any], x: Array, tokens: Tokens) -> Memory:
        key = linear(layer, "key", x)
        value = key if self.key_is_value else linear(layer, "value", x)
        value = value.reshape(*x.shape[:2], -1, self.head_dim)
        value = rms_norm(value, None, tokens.norm.eps) if self.value_norm else value
        key = self._placed(layer, "key_norm", key, tokens)
        return Memory(by_token=(key.swapaxes(1, 2), value.swapaxes(1, 2)))

    def _placed(self, layer: Mapping[str, Any], name: str, heads: Array, tokens: Tokens) -> Array:
        """Queries or keys after their norm and rope, [B, T, heads, K]."""
        norm, apart = tokens.norm, (*heads.shape[:2], -1, self.head_dim)
        if self.qk_norm == "head":
            heads = rms_norm(heads.reshape(apart), layer[name], norm.eps, norm.offset)
        elif self.qk_norm == "all":
            weight, mean = tokens.exchange.own_heads(layer[name]), tokens.exchange.mean_of_heads
            heads = rms_norm(heads, weight, norm.eps, norm.offset, whole_mean=mean)
        heads = heads.reshape(apart)
        if self.rope is None:
            return heads
        return apply_rope(heads, *tokens.ropes[self.rope, self.head_dim], interleaved=self.rope.interleaved)

    def _window(self, tokens: Tokens) -> int | None:
        # Nobody sees past the start of his own document, so a window of a document's length hides nothing; but it lets
        # attention leave out the keys before it. Behind a prefix that several share, a row's order says nothing of how
        # far a document reaches.
        longest = None if tokens.prefix_ids is not None else tokens.longest_segment
        return min((limit for limit in (self.window, longest) if limit is not None), default=None)

    def _output(self, layer: Mapping[str, Any], mixed: Array, gate: Array | None, tokens: Tokens) -> Array:
        mixed = mixed if gate is None else mixed * jax.nn.sigmoid(gate)
        return linear(layer, "output", mixed.reshape(*mixed.shape[:2], -1), tokens.exchange)

    def _attend_over(
        self, layer: Mapping[str, Any], query: Float[Array, "B 1 H K"], settled: Memory, recent: Memory, now: Step
    ) -> Float[Array, "B 1 H K"]:
        """Attention over both memories at once: one softmax, products apart, so that nothing is copied together."""
        (old_keys, old_values), (new_keys, new_values) = settled.by_token, recent.by_token
        rows, _, heads, head_dim = query.shape
        groups, old = old_keys.shape[1:3]
        grouped = query.reshape(rows, groups, heads // groups, head_dim)
        scores = jnp.concatenate(
            [
                jnp.einsum("bgrk,bgsk->bgrs", grouped, part, preferred_element_type=jnp.float32)
                for part in (old_keys, new_keys)
            ],
            axis=-1,
        ) * jnp.float32(head_dim**-0.5 if self.scale is None else self.scale)
        if self.softcap is not None:
            scores = jnp.float32(self.softcap) * jnp.tanh(scores / jnp.float32(self.softcap))
        seen = now.seen(old, new_keys.shape[2], self.window)[:, None, None]
        scores = jnp.where(seen, scores, -jnp.inf)
        if self.sinks:
            sinks = layer["sinks"].astype(jnp.float32).reshape(1, groups, heads // groups, 1)
            scores = jnp.concatenate((scores, jnp.broadcast_to(sinks, (rows, *sinks.shape[1:]))), axis=-1)
        weights = jax.nn.softmax(scores, axis=-1).astype(old_values.dtype)
        weights = weights[..., :-1] if self.sinks else weights
        mixed = [
            jnp.einsum("bgrs,bgsk->bgrk", part, value, preferred_element_type=jnp.float32)
            for part, value in ((weights[..., :old], old_values), (weights[..., old:], new_values))
        ]
        return (mixed[0] + mixed[1]).reshape(query.shape).astype(query.dtype)
