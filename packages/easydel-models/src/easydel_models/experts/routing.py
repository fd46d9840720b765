"""Routers: which experts a token goes to, and with what weights.

Axis letters: N tokens, D dim, E experts, K experts per token.
"""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from easydel_models.errors import ConfigError
from easydel_models.layers.feed_forward import Routing

Scores = Literal["softmax", "sigmoid", "softmax_of_chosen"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RouterConfig:
    """How a router makes scores of logits, chooses by them, and weighs what the chosen experts give."""

    num_experts: int
    """E."""
    experts_per_token: int
    """K, at most `num_experts`."""
    scores: Scores = "softmax"
    """``softmax`` over all experts; ``sigmoid`` of each; ``softmax_of_chosen``: chosen by logits, then softmax over the
    K chosen alone (gpt-oss)."""
    normalize: bool = False
    """Whether the weights of the chosen are divided by their sum."""
    epsilon: float = 0.0
    """Added to that sum."""
    scale: float = 1.0
    """Multiplies the weights (DeepSeek's ``routed_scaling_factor``)."""
    groups: int = 1
    """Groups of neighbouring experts; divides `num_experts`."""
    groups_per_token: int = 1
    """Groups a token may choose from: those whose two best experts score highest together."""

    def __post_init__(self) -> None:
        """Refuses impossible numbers.

        Raises:
            ConfigError: Naming the field, its value and what is possible.
        """
        experts, chosen = self.num_experts, self.experts_per_token
        if not 1 <= chosen <= experts:
            raise ConfigError(f"`experts_per_token` is {chosen}; expected 1 to `num_experts`={experts}.")
        if self.groups < 1 or experts % self.groups:
            raise ConfigError(f"`groups` is {self.groups}; expected a divisor of `num_experts`={experts}.")
        if not 1 <= self.groups_per_token <= self.groups:
            raise ConfigError(f"`groups_per_token` is {self.groups_per_token}; expected 1 to `groups`={self.groups}.")
        if self.groups_per_token * (experts // self.groups) < chosen:
            raise ConfigError(
                f"`experts_per_token` is {chosen}, but {self.groups_per_token} groups hold "
                f"{self.groups_per_token * (experts // self.groups)} experts."
            )


class Choice(NamedTuple):
    """Where tokens go."""

    experts: Int[Array, "N K"]
    """The chosen experts of every token, best first."""
    weights: Float[Array, "N K"]
    """What each one's result is multiplied by, in float32."""


def choose(
    config: RouterConfig, logits: Float[Array, "N E"], selection_bias: Float[Array, " E"] | None = None
) -> Choice:
    """Chooses experts, in float32.

    Args:
        config: How.
        logits: What the router's matrix gave.
        selection_bias: Added to the scores where experts are chosen, not where they are weighed
            (DeepSeek's ``e_score_correction_bias``).

    References: Shazeer et al., Outrageously Large Neural Networks, 2017, https://arxiv.org/abs/1701.06538;
        DeepSeek-AI, DeepSeek-V3 Technical Report, 2024, https://arxiv.org/abs/2412.19437, eqs. 12-16.
    """
    logits = logits.astype(jnp.float32)
    scores = _scores(config, logits)
    choice = scores if selection_bias is None else scores + selection_bias.astype(jnp.float32)[None]
    choice = jax.lax.stop_gradient(choice)
    if config.groups > 1:
        choice = jnp.where(_allowed(config, choice), choice, -jnp.inf)
    _, experts = jax.lax.top_k(choice, config.experts_per_token)
    weights = jnp.take_along_axis(scores, experts, axis=1)
    if config.scores == "softmax_of_chosen":
        weights = jax.nn.softmax(weights, axis=1)
    if config.normalize:
        weights = weights / (weights.sum(axis=1, keepdims=True) + jnp.float32(config.epsilon))
    return Choice(experts, weights * jnp.float32(config.scale))


def router_load(config: RouterConfig, logits: Float[Array, "N E"], real: Bool[Array, " N"]) -> Routing:
    """Returns one layer's sums for the load-balancing loss, over the tokens that are ``real``.

    As in transformers: probabilities are the softmax of the logits, and the experts counted are its K highest,
    whatever else the router chooses by.
    """
    probabilities = jax.nn.softmax(logits.astype(jnp.float32), axis=1)
    _, chosen = jax.lax.top_k(jax.lax.stop_gradient(probabilities), config.experts_per_token)
    hits = (chosen[:, :, None] == jnp.arange(config.num_experts)[None, None]).sum(axis=1).astype(jnp.float32)
    weight = real.astype(jnp.float32)
    return Routing(weight @ hits, weight @ probabilities, weight.sum())


def whole_load(loads: tuple[Routing, ...]) -> Routing:
    """Returns the sums over all layers of what `easydel_models.decoder.Decoded` holds of each stack, [layers, ...].

    All routers choose among as many experts, as those of every family do.
    """
    summed = [Routing(*(array.sum(axis=0) for array in load)) for load in loads]
    return jax.tree.map(lambda *sums: sum(sums[1:], sums[0]), *summed)


def expert_weights(load: Routing) -> Float[Array, " E"]:
    """``E * chosen_e / tokens²``: what each expert's probabilities weigh in `load_balancing_loss`. Passes no gradient.

    ``load`` holds the sums of the whole optimizer step: a product of sums is not the sum of products, so that it has to
    be added up over layers, micro-batches and devices first. No tokens: 0.
    """
    experts, tokens = load.chosen.shape[0], jnp.maximum(load.tokens, 1)
    return jax.lax.stop_gradient(jnp.float32(experts) * load.chosen / tokens / tokens)


def load_balancing_loss(load: Routing, weights: Float[Array, " E"] | None = None) -> Float[Array, ""]:
    """``E * sum_e (chosen_e / tokens) * (probability_e / tokens)``, at least K, and K where all experts are used alike.

    Args:
        load: The sums of the whole optimizer step; or of a part of it, whose share of the loss is then given.
        weights: `expert_weights` of the whole step; None = ``load`` is the whole.

    References: Fedus et al., Switch Transformers, 2021, https://arxiv.org/abs/2101.03961, eqs. 4-6, as transformers'
        ``load_balancing_loss_func`` has them for K experts a token.
    """
    return jnp.sum((expert_weights(load) if weights is None else weights) * load.probability)


def _scores(config: RouterConfig, logits: Array) -> Array:
    if config.scores == "softmax":
        return jax.nn.softmax(logits, axis=1)
    return jax.nn.sigmoid(logits) if config.scores == "sigmoid" else logits


def _allowed(config: RouterConfig, choice: Array) -> Array:
    grouped = choice.reshape(choice.shape[0], config.groups, -1)
    best_two = jax.lax.top_k(grouped, min(2, grouped.shape[2]))[0].sum(axis=2)
    _, groups = jax.lax.top_k(best_two, config.groups_per_token)
    among = (groups[:, :, None] == jnp.arange(config.groups)[None, None]).any(axis=1)
    return jnp.broadcast_to(among[:, :, None], grouped.shape).reshape(choice.shape)
