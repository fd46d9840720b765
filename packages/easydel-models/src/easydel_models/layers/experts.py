"""The feed-forward of experts: every token goes to a few of many gated networks, and only these are computed.

On a mesh `fsdp` gathers the experts' kernels as all others, and `tp` cuts each expert's width. `ep` deals whole experts
out: each device of such a group is sent the tokens of all, computes what its own experts add to them, and every token
is given the sum. So no token is ever dropped, and what travels does not depend on where tokens want to go.

Axis letters: B batch, T tokens, N all tokens, D dim, E experts, K experts per token, F width of an expert.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from easydel_models.errors import ConfigError
from easydel_models.experts.grouped import gathered, grouped_dot
from easydel_models.experts.routing import Choice, RouterConfig, choose, router_load
from easydel_models.layers.activations import Activation, activate
from easydel_models.layers.feed_forward import FeedForward, Routing
from easydel_models.layers.linear import LORA_A, LORA_B, linear
from easydel_models.layers.norms import NormConfig, normed, rms_norm
from easydel_models.layers.parameter import ParameterSpec, linear_parameters
from easydel_models.layers.tokens import Tokens

AXES = {
    "router": ("embed", "all_experts"),
    "router_bias": ("all_experts",),
    "router_scale": ("width",),
    "selection_bias": ("all_experts",),
    "expert_scale": ("all_experts",),
    "expert_gate": ("experts", "embed", "mlp"),
    "expert_gate_bias": ("experts", "mlp"),
    "expert_up": ("experts", "embed", "mlp"),
    "expert_up_bias": ("experts", "mlp"),
    "expert_down": ("experts", "mlp", "embed"),
    "expert_down_bias": ("experts", "width"),
    "shared_gate": ("embed", "mlp"),
    "shared_up": ("embed", "mlp"),
    "shared_down": ("mlp", "embed"),
    "shared_share": ("embed", "one"),
    "gate": ("embed", "mlp"),
    "up": ("embed", "mlp"),
    "down": ("mlp", "embed"),
    "experts_norm": ("width",),
    "experts_post_norm": ("width",),
    "dense_post_norm": ("width",),
}


@final
@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Experts(FeedForward):
    """``sum_k weight_k expert_k(x)``, and what an expert that all tokens share adds."""

    router: RouterConfig
    """How tokens choose."""
    width: int
    """Inner width of an expert."""
    activation: Activation = "silu"
    """Non-linearity of the gate."""
    clamp: float | None = None
    """None: ``act(gate) * up``. Else gpt-oss's gate: ``(up + 1) * gate * sigmoid(1.702 gate)``, the gate at most this
    and ``up`` at most this in magnitude."""
    bias: bool = False
    """Whether router and experts have biases."""
    selection_bias: bool = False
    """Whether something that is not trained is added to scores where experts are chosen."""
    shared_width: int = 0
    """Inner width of the expert that all tokens share; 0 = there is none."""
    shared_share: bool = False
    """Whether a sigmoid of its own says how much of the shared expert a token takes."""

    def __post_init__(self) -> None:
        """Refuses impossible sizes.

        Raises:
            ConfigError: Naming the field, its value and what is possible.
        """
        if self.width < 1 or self.shared_width < 0:
            raise ConfigError(f"Experts of width {self.width} and {self.shared_width}; expected at least 1, and 0.")
        if self.shared_share and not self.shared_width:
            raise ConfigError("`shared_share` says how much of a shared expert is taken; there is none.")

    def parameters(self, dim: int, norm: NormConfig) -> dict[str, ParameterSpec]:
        """See `FeedForward`."""
        specs = {
            **linear_parameters("router", dim, self.router.num_experts, bias=self.bias),
            **_expert_parameters(self.router.num_experts, dim, self.width, bias=self.bias),
        }
        if self.selection_bias:
            specs["selection_bias"] = ParameterSpec(
                shape=(self.router.num_experts,), kind="bias", init="zeros", buffer=True
            )
        if self.shared_width:
            specs |= linear_parameters("shared_gate", dim, self.shared_width)
            specs |= linear_parameters("shared_up", dim, self.shared_width)
            specs |= linear_parameters("shared_down", self.shared_width, dim)
        return specs | (linear_parameters("shared_share", dim, 1) if self.shared_share else {})

    def parts(self) -> Mapping[str, int]:
        """See `FeedForward`."""
        shared = {"width of the shared expert": self.shared_width} if self.shared_width else {}
        return {"width of an expert": self.width, **shared}

    def num_experts(self) -> int:
        """See `FeedForward`."""
        return self.router.num_experts

    def experts_per_token(self) -> int:
        """See `FeedForward`."""
        return self.router.experts_per_token

    def forward(
        self, layer: Mapping[str, Any], x: Float[Array, "B T D"], tokens: Tokens, residual: Float[Array, "B T D"]
    ) -> tuple[Float[Array, "B T D"], Routing]:
        """See `FeedForward`."""
        logits = _router_logits(layer, x)
        real = _real(tokens, x)
        choice = choose(self.router, logits, layer.get("selection_bias"))
        out = _experts(layer, x, choice, real, tokens, activation=self.activation, clamp=self.clamp)
        if self.shared_width:
            inner = activate(linear(layer, "shared_gate", x), self.activation) * linear(layer, "shared_up", x)
            shared = linear(layer, "shared_down", inner, tokens.exchange)
            out = out + (shared * jax.nn.sigmoid(linear(layer, "shared_share", x)) if self.shared_share else shared)
        return out, router_load(self.router, logits, real)


@final
@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DenseAndExperts(FeedForward):
    """A gated network and experts beside each other, each with a norm behind it; the router reads the stream itself.

    References: Gemma 4, as transformers' ``Gemma4TextDecoderLayer`` has it.
    """

    router: RouterConfig
    """How tokens choose."""
    width: int
    """Inner width of an expert."""
    dense_width: int
    """Inner width of the network that all tokens pass."""
    activation: Activation = "gelu_tanh"
    """Non-linearity of all gates."""

    def parameters(self, dim: int, norm: NormConfig) -> dict[str, ParameterSpec]:
        """See `FeedForward`."""
        experts = self.router.num_experts
        return {
            **linear_parameters("gate", dim, self.dense_width),
            **linear_parameters("up", dim, self.dense_width),
            **linear_parameters("down", self.dense_width, dim),
            **norm.parameters("dense_post_norm", dim),
            **linear_parameters("router", dim, experts),
            "router_scale": ParameterSpec(shape=(dim,), kind="norm", init="ones"),
            "expert_scale": ParameterSpec(shape=(experts,), kind="norm", init="ones"),
            **norm.parameters("experts_norm", dim),
            **_expert_parameters(experts, dim, self.width, bias=False),
            **norm.parameters("experts_post_norm", dim),
        }

    def parts(self) -> Mapping[str, int]:
        """See `FeedForward`."""
        return {"width of an expert": self.width, "mlp_dim": self.dense_width}

    def num_experts(self) -> int:
        """See `FeedForward`."""
        return self.router.num_experts

    def experts_per_token(self) -> int:
        """See `FeedForward`."""
        return self.router.experts_per_token

    def forward(
        self, layer: Mapping[str, Any], x: Float[Array, "B T D"], tokens: Tokens, residual: Float[Array, "B T D"]
    ) -> tuple[Float[Array, "B T D"], Routing]:
        """See `FeedForward`."""
        inner = activate(linear(layer, "gate", x), self.activation) * linear(layer, "up", x)
        dense = normed(layer, "dense_post_norm", linear(layer, "down", inner, tokens.exchange), tokens.norm)
        scale = layer["router_scale"].astype(residual.dtype) * jnp.asarray(residual.shape[-1] ** -0.5, residual.dtype)
        logits = _router_logits(layer, rms_norm(residual, None, tokens.norm.eps) * scale[None, None])
        real = _real(tokens, x)
        choice = choose(self.router, logits)
        of_chosen = layer["expert_scale"].astype(jnp.float32)[choice.experts]
        choice = choice._replace(weights=choice.weights * of_chosen)
        from_stream = normed(layer, "experts_norm", residual, tokens.norm)
        out = _experts(layer, from_stream, choice, real, tokens, activation=self.activation, clamp=None)
        return dense + normed(layer, "experts_post_norm", out, tokens.norm), router_load(self.router, logits, real)


def _expert_parameters(experts: int, dim: int, width: int, *, bias: bool) -> dict[str, ParameterSpec]:
    shapes = {"expert_gate": (dim, width), "expert_up": (dim, width), "expert_down": (width, dim)}
    specs = {name: ParameterSpec(shape=(experts, *shape), kind="kernels") for name, shape in shapes.items()}
    if bias:
        for name, (_, out) in shapes.items():
            specs[f"{name}_bias"] = ParameterSpec(shape=(experts, out), kind="other", init="zeros")
    return specs


def _router_logits(layer: Mapping[str, Any], x: Float[Array, "B T D"]) -> Float[Array, "N E"]:
    # In float32: the choice between experts nearly alike must not be left to rounding.
    logits = linear(layer, "router", x.astype(jnp.float32))
    return logits.reshape(-1, logits.shape[-1])


def _real(tokens: Tokens, x: Float[Array, "B T D"]) -> Bool[Array, " N"]:
    if tokens.segment_ids is None:
        return jnp.ones(x.shape[0] * x.shape[1], bool)
    return tokens.segment_ids.reshape(-1) > 0


def _experts(
    layer: Mapping[str, Any],
    x: Float[Array, "B T D"],
    choice: Choice,
    real: Bool[Array, " N"],
    tokens: Tokens,
    *,
    activation: Activation,
    clamp: float | None,
) -> Float[Array, "B T D"]:
    exchange, held = tokens.exchange, layer["expert_gate"].shape[0]
    rows, weights = exchange.to_experts(x.reshape(-1, x.shape[-1])), exchange.to_experts(choice.weights)
    # Padding goes to no expert: it would cost as much as a token.
    chosen = exchange.to_experts(jnp.where(real[:, None], choice.experts, jnp.int32(-1))) - exchange.first_expert(held)
    chosen = jnp.where((chosen >= 0) & (chosen < held), chosen, jnp.int32(held))
    out = _weighted(layer, rows, chosen, weights, tokens, activation=activation, clamp=clamp)
    return exchange.from_experts(exchange.summed(out)).reshape(x.shape)


def _weighted(
    layer: Mapping[str, Any],
    rows: Float[Array, "N D"],
    chosen: Int[Array, "N K"],
    weights: Float[Array, "N K"],
    tokens: Tokens,
    *,
    activation: Activation,
    clamp: float | None,
) -> Float[Array, "N D"]:
    """Returns what the chosen experts add to each row; a number beyond them is none."""
    count, per_token = chosen.shape
    experts = layer["expert_gate"].shape[0]
    order = jnp.argsort(chosen.reshape(-1), stable=True).astype(jnp.int32)
    back = jnp.argsort(order).astype(jnp.int32)
    groups = chosen.reshape(-1)[order]
    sizes = (groups[:, None] == jnp.arange(experts, dtype=jnp.int32)[None]).sum(axis=0, dtype=jnp.int32)
    sent = gathered(rows, order // per_token, back.reshape(count, per_token))

    def times(name: str, x: Array) -> Array:
        product = grouped_dot(x, layer[name], sizes)
        if name + LORA_A in layer:
            product = product + grouped_dot(grouped_dot(x, layer[name + LORA_A], sizes), layer[name + LORA_B], sizes)
        bias = layer.get(f"{name}_bias")
        if bias is None:
            return product
        # A row beyond all groups gets no bias either.
        of_row = (groups[:, None] == jnp.arange(experts, dtype=jnp.int32)[None]).astype(x.dtype)
        return product + of_row @ bias.astype(x.dtype)

    layer = dict(layer)
    if "expert_down_bias" in layer:
        layer["expert_down_bias"] = tokens.exchange.once(layer["expert_down_bias"])
    gate, up = times("expert_gate", sent), times("expert_up", sent)
    inner = activate(gate, activation) * up if clamp is None else _clamped(gate, up, clamp)
    out = gathered(times("expert_down", inner), back, order[:, None])
    out = out.reshape(count, per_token, -1)
    weighted = out.astype(jnp.float32) * weights[:, :, None]
    return weighted.sum(axis=1).astype(out.dtype)


def _clamped(gate: Array, up: Array, limit: float) -> Array:
    bound = jnp.asarray(limit, gate.dtype)
    gate, up = jnp.minimum(gate, bound), jnp.clip(up, -bound, bound)
    return (up + jnp.ones((), up.dtype)) * gate * jax.nn.sigmoid(gate * jnp.asarray(1.702, gate.dtype))
