"""The gated delta net: a mixer whose heads keep a matrix each instead of all keys and values.

Queries, keys and values pass a short convolution first; what a head reads is normed and gated.

Axis letters: B batch, T tokens, D dim, G key heads, H value heads, K key width, V value width, W taps, C channels.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from easydel_models.errors import ConfigError
from easydel_models.layers.linear import linear
from easydel_models.layers.mixer import Mixer
from easydel_models.layers.norms import NormConfig, rms_norm
from easydel_models.layers.parameter import ParameterSpec, linear_parameters
from easydel_models.layers.rope import RopeConfig
from easydel_models.layers.tokens import Memory, Step, Tokens
from easydel_models.recurrent.convolution import short_convolution
from easydel_models.recurrent.delta_rule import delta_rule, delta_rule_step, unit_length
from easydel_models.recurrent.documents import Documents, one_token_further, running_documents

AXES = {
    "delta_query": ("embed", "heads"),
    "delta_key": ("embed", "heads"),
    "delta_value": ("embed", "heads"),
    "delta_gate": ("embed", "heads"),
    "delta_write": ("embed", "heads"),
    "delta_decay": ("embed", "heads"),
    "decay_offset": ("heads",),
    "decay_rate": ("heads",),
    "delta_query_convolution": ("taps", "heads"),
    "delta_key_convolution": ("taps", "heads"),
    "delta_value_convolution": ("taps", "heads"),
    "delta_norm": ("head",),
    "delta_output": ("heads", "embed"),
}
_CONVOLVED = ("delta_query", "delta_key", "delta_value")


@final
@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DeltaNet(Mixer):
    """Linear attention by the gated delta rule; see `easydel_models.recurrent.delta_rule`.

    A token writes with strength ``sigmoid(delta_write(x))`` and decays the state by
    ``exp(-exp(decay_rate) softplus(delta_decay(x) + decay_offset))``.

    References: Yang, Kautz & Hatamizadeh, Gated Delta Networks, 2024, https://arxiv.org/abs/2412.06464.
    """

    num_key_heads: int
    """Query and key heads; divides `num_value_heads`."""
    num_value_heads: int
    """Value heads, and matrices of state."""
    key_dim: int
    """Width of a query or key head."""
    value_dim: int
    """Width of a value head."""
    taps: int = 4
    """Tokens that the convolution sees, its own included."""
    publishes: str | None = None
    """See `Mixer`."""

    def __post_init__(self) -> None:
        """Refuses impossible sizes.

        Raises:
            ConfigError: Naming the field, its value and what is possible.
        """
        for name in ("num_key_heads", "num_value_heads", "key_dim", "value_dim", "taps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"`{name}` of a delta net is {getattr(self, name)}; expected at least 1.")
        if self.num_value_heads % self.num_key_heads:
            raise ConfigError(
                f"`num_key_heads` is {self.num_key_heads}; expected a divisor of "
                f"num_value_heads={self.num_value_heads}."
            )

    def parameters(self, dim: int, norm: NormConfig) -> dict[str, ParameterSpec]:
        """See `Mixer`."""
        heads, values = self.num_value_heads, self.num_value_heads * self.value_dim
        widths = self._widths()
        specs = {
            **{name: ParameterSpec(shape=(dim, width), kind="kernel") for name, width in widths.items()},
            **linear_parameters("delta_gate", dim, values),
            **linear_parameters("delta_write", dim, heads),
            **linear_parameters("delta_decay", dim, heads),
        }
        # In files that fuse them, what belongs to one key head lies together.
        specs = {name: dataclasses.replace(spec, heads=self.num_key_heads) for name, spec in specs.items()}
        taps = {
            f"{name}_convolution": ParameterSpec(shape=(self.taps, width), kind="other")
            for name, width in widths.items()
        }
        return {
            **specs,
            "decay_offset": ParameterSpec(shape=(heads,), kind="bias", init="ones"),
            "decay_rate": ParameterSpec(shape=(heads,), kind="bias", init="zeros"),
            **taps,
            "delta_norm": ParameterSpec(shape=(self.value_dim,), kind="norm", init="ones"),
            **linear_parameters("delta_output", values, dim),
        }

    def ropes(self) -> tuple[tuple[RopeConfig, int], ...]:
        """See `Mixer`."""
        return ()

    def parts(self) -> Mapping[str, int]:
        """See `Mixer`."""
        return {"key heads of the delta net": self.num_key_heads}

    def forward(
        self, layer: Mapping[str, Any], x: Float[Array, "B T D"], tokens: Tokens
    ) -> tuple[Float[Array, "B T D"], Memory]:
        """See `Mixer`."""
        exchange, rows = tokens.exchange, x.shape[0]
        segment_ids = jnp.ones(x.shape[:2], jnp.int32) if tokens.segment_ids is None else tokens.segment_ids
        documents = running_documents(exchange.of_whole_row(segment_ids), jnp.zeros(rows, jnp.int32))
        mixed = {name: exchange.of_whole_row(linear(layer, name, x)) for name in _CONVOLVED}
        log_decay, beta = (exchange.of_whole_row(array) for array in self._rates(layer, x))
        mixed, states = self._convolved(layer, mixed, documents, self._empty_states(layer, rows, x.dtype))
        query, key, value = self._heads(mixed)
        state = jnp.zeros((rows, value.shape[2], self.key_dim, self.value_dim), jnp.float32)
        read, state = delta_rule(query, key, value, log_decay=log_decay, beta=beta, documents=documents, state=state)
        out = self._output(layer, x, exchange.own_tokens(read), tokens)
        return out, Memory(by_row=(*states, state))

    def empty_memory(self, rows: int, slots: int, dtype: np.dtype) -> Memory:
        """See `Mixer`."""
        convolutions = tuple(jnp.zeros((rows, self.taps - 1, width), dtype) for width in self._widths().values())
        state = jnp.zeros((rows, self.num_value_heads, self.key_dim, self.value_dim), jnp.float32)
        return Memory(by_row=(*convolutions, state))

    def looks_back(self) -> int | None:
        """See `Mixer`."""
        return None

    def step(
        self, layer: Mapping[str, Any], x: Float[Array, "B 1 D"], settled: Memory, recent: Memory, now: Step
    ) -> tuple[Float[Array, "B 1 D"], Memory]:
        """See `Mixer`."""
        *convolutions, state = recent.by_row
        documents = one_token_further(x.shape[0])
        mixed = {name: linear(layer, name, x) for name in _CONVOLVED}
        mixed, states = self._convolved(layer, mixed, documents, tuple(convolutions))
        query, key, value = (array[:, 0] for array in self._heads(mixed))
        log_decay, beta = (array[:, 0] for array in self._rates(layer, x))
        read, state = delta_rule_step(query, key, value, log_decay=log_decay, beta=beta, state=state)
        return self._output(layer, x, read[:, None], now.tokens), Memory(by_row=(*states, state))

    def score_width(self) -> int:
        """See `Mixer`: nothing is computed for pairs of tokens."""
        return 0

    def honours_prefixes(self) -> bool:
        """See `Mixer`: a state holds one past, not that of several answers."""
        return False

    def _widths(self) -> dict[str, int]:
        keys = self.num_key_heads * self.key_dim
        return dict(zip(_CONVOLVED, (keys, keys, self.num_value_heads * self.value_dim), strict=True))

    def _empty_states(self, layer: Mapping[str, Any], rows: int, dtype: Any) -> tuple[Array, ...]:
        widths = (layer[f"{name}_convolution"].shape[1] for name in _CONVOLVED)
        return tuple(jnp.zeros((rows, self.taps - 1, width), dtype) for width in widths)

    def _convolved(
        self, layer: Mapping[str, Any], mixed: Mapping[str, Array], documents: Documents, states: tuple[Array, ...]
    ) -> tuple[dict[str, Array], tuple[Array, ...]]:
        results, after = {}, []
        for name, state in zip(_CONVOLVED, states, strict=True):
            kernel = layer[f"{name}_convolution"]
            out, last = short_convolution(mixed[name], kernel, None, documents=documents, state=state)
            results[name] = jax.nn.silu(out)
            after.append(last)
        return results, tuple(after)

    def _heads(self, mixed: Mapping[str, Array]) -> tuple[Array, Array, Array]:
        """Queries and keys of length 1, each key head repeated for the value heads it serves."""
        query, key, value = (
            mixed[name].reshape(*mixed[name].shape[:2], -1, self._head_width(name)) for name in _CONVOLVED
        )
        each = self.num_value_heads // self.num_key_heads
        query, key = (jnp.repeat(unit_length(array), each, axis=2) for array in (query, key))
        return query, key, value.astype(jnp.float32)

    def _head_width(self, name: str) -> int:
        return self.value_dim if name == "delta_value" else self.key_dim

    def _rates(self, layer: Mapping[str, Any], x: Array) -> tuple[Array, Array]:
        strength, speed = (linear(layer, name, x).astype(jnp.float32) for name in ("delta_write", "delta_decay"))
        offset, rate = (layer[name].astype(jnp.float32)[None, None] for name in ("decay_offset", "decay_rate"))
        return -jnp.exp(rate) * jax.nn.softplus(speed + offset), jax.nn.sigmoid(strength)

    def _output(self, layer: Mapping[str, Any], x: Array, read: Float[Array, "B T H V"], tokens: Tokens) -> Array:
        gate = linear(layer, "delta_gate", x).reshape(read.shape).astype(jnp.float32)
        read = rms_norm(read.astype(x.dtype), layer["delta_norm"], tokens.norm.eps)
        gated = (read.astype(jnp.float32) * jax.nn.silu(gate)).astype(x.dtype)
        return linear(layer, "delta_output", gated.reshape(*x.shape[:2], -1), tokens.exchange)
