"""The loss by which routers learn to spread tokens over experts, over a whole step however it is split.

With C_e how often expert e was chosen, P_e the sum of the probabilities that it was given, and N the tokens, each over
all layers and tokens of the step, it is ``E sum_e (C_e / N) (P_e / N)``, as transformers defines it. Only P passes a
gradient. So, once C and N are known, it is a sum over micro-batches, ``sum_e w_e P_e`` with ``w_e = E C_e / N^2``;
where there are several, a first pass counts.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from easydel_models.decoder import Decoded
from easydel_models.experts.routing import expert_weights, load_balancing_loss, whole_load
from easydel_models.layers.feed_forward import Routing
from easydel_models.parameters import join_params
from jaxtyping import Array, Float

from easydel_trainers.config import TrainerConfig
from easydel_trainers.step.forward import segments_of, training_pass
from easydel_trainers.step.metrics import Ratios, Terms
from easydel_trainers.step.objective import Batch, Objective, Params, ScoredObjective

ROUTER = "router"
"""Name of the loss among the terms of a step's, of a micro-batch's part of it among scores, and of w in a batch."""

AUX_LOSS = "aux_loss"
"""Its name among the metrics, as in TRL and transformers."""


def router_coefficient(config: TrainerConfig, model: Any) -> float:
    """Returns what the loss is multiplied by; 0 = it is not trained on."""
    if not any(layer.feed_forward.num_experts() for layer in model.config.all_layers):
        return 0.0
    asked = config.router_aux_loss_coef
    return model.config.router_loss if asked is None else asked


def router_part(config: TrainerConfig, model: Any, decoded: Decoded, batch: Batch) -> dict[str, Float[Array, " 1"]]:
    """Returns a micro-batch's part of the loss, times its coefficient; nothing where it is not trained on."""
    coefficient = router_coefficient(config, model)
    if not coefficient:
        return {}
    loss = load_balancing_loss(whole_load(decoded.routings), batch.get(ROUTER))
    return {ROUTER: (jnp.float32(coefficient) * loss)[None]}


def router_metric(objective: Objective | ScoredObjective, params: Params, sums: Terms, weights: Terms) -> Ratios:
    """`aux_loss`: the loss before it is multiplied by its coefficient; nothing where it is not trained on."""
    if ROUTER not in sums:
        return {}
    coefficient = router_coefficient(objective.config, join_params(objective.structure, params))
    return {AUX_LOSS: (sums[ROUTER] / jnp.float32(coefficient), weights[ROUTER])}


def with_expert_weights(objective: Objective | ScoredObjective, params: Params, batch: Batch) -> Batch:
    """Returns a step's batch with the weights w of its experts, where several micro-batches share them. Passes no
    gradient.
    """
    micro_batches = batch["input_ids"].shape[0]
    if micro_batches == 1 or not router_coefficient(objective.config, join_params(objective.structure, params)):
        return batch

    def load_of(micro_batch: Batch) -> Routing:
        model = join_params(objective.structure, jax.lax.stop_gradient(params))
        decoded = model.decoded(
            micro_batch["input_ids"],
            **segments_of(micro_batch),
            **training_pass(objective.config, micro_batch),
        )
        return whole_load(decoded.routings)

    loads = jax.lax.map(load_of, batch)
    weights = expert_weights(jax.tree.map(lambda sums: sums.sum(axis=0), loads))
    return {**batch, ROUTER: jnp.broadcast_to(weights[None], (micro_batches, *weights.shape))}
