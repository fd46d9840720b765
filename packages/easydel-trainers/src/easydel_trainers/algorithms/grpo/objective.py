"""What GRPO minimises, for a model of some structure: from a micro-batch's arrays to the pure loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import jax
import jax.numpy as jnp
from easydel_models.lm_loss import IGNORE_INDEX, token_logps
from easydel_models.parameters import join_params
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from easydel_trainers.algorithms.grpo.config import GRPOConfig
from easydel_trainers.algorithms.grpo.loss import GRPOOptions, Rows, Tokens, grpo_loss, loss_weight
from easydel_trainers.step.compiled import Compiled
from easydel_trainers.step.device_mesh import results_everywhere
from easydel_trainers.step.forward import scoring_pass, segments_of, sequence_numbers, training_pass
from easydel_trainers.step.metrics import Ratios, Terms
from easydel_trainers.step.objective import Batch, Extras, Params, ScoredObjective, Scores
from easydel_trainers.step.router import router_part
from easydel_trainers.step.targets import next_labels

_LOSS = "loss"


@final
@dataclass(frozen=True, kw_only=True)
class GRPOObjective(ScoredObjective):
    """The losses of GRPO. Its scores are of positions, not of rows: arrays `[N]` of all positions of a micro-batch.

    A batch has, beside tokens and labels, what was known when its completions were sampled: `advantages` of rows under
    `rows`, and maybe arrays of positions, each at the position that predicts the token: `old_logps`, `reference_logps`
    and `corrections`. Without `old_logps` the model that is trained is the one that sampled.
    """

    structure: Any
    config: GRPOConfig

    @property
    def coupled(self) -> bool:
        """No: rows were compared when their rewards were known."""
        return False

    def prepare(self, params: Params, batch: Batch) -> Batch:
        """With the entropy from which on a token counts, where only some tokens do."""
        share = self.config.top_entropy_quantile
        if share == 1.0:
            return batch
        entropies = jax.lax.map(lambda part: self._at_positions(params, part)["entropies"], batch)
        counted = jax.vmap(_mask)(batch) > 0
        least = jnp.nanquantile(jnp.where(counted, entropies, jnp.nan), 1 - share)
        real = batch["rows"]["real"]
        return {**batch, "rows": {**batch["rows"], "least_entropy": jnp.full_like(real, least)}}

    def weights(self, batch: Batch) -> Terms:
        """Returns rows, tokens, or the most tokens that the rows could have had; see `loss_weight`."""
        config, real = self.config, batch["rows"]["real"]
        return {
            _LOSS: loss_weight(
                _mask(batch), real, loss_type=config.loss_type, max_completion_length=config.max_completion_length
            )
        }

    def scores(self, params: Params, batch: Batch) -> Scores:
        """Returns what the model says of every position, and what was known of it before."""
        at_positions = self._at_positions(params, batch)
        fixed = jax.lax.stop_gradient
        known = {name: batch[name].reshape(-1) for name in _KNOWN if name in batch}
        return {
            **at_positions,
            "old_logps": fixed(at_positions["logps"]),
            "reference_logps": jnp.zeros_like(at_positions["logps"]),
            "corrections": jnp.ones_like(at_positions["logps"]),
            **known,
            "mask": _mask(batch),
            "number": sequence_numbers(batch, count=batch["rows"]["real"].shape[-1]).reshape(-1),
        }

    def score_loss(
        self, scores: Scores, rows: Scores, extras: Extras, *, training: bool
    ) -> tuple[Terms, Ratios, Extras]:
        """See `ScoredObjective`."""
        weights = scores["corrections"]
        if "least_entropy" in rows:
            weights = weights * (scores["entropies"] >= rows["least_entropy"][0])
        tokens = Tokens(
            logps=scores["logps"],
            old_logps=scores["old_logps"],
            reference_logps=scores["reference_logps"],
            entropies=scores["entropies"],
            mask=scores["mask"],
            weights=weights,
        )
        belonging = Rows(scores["number"], rows["real"])
        loss, metrics = grpo_loss(tokens, belonging, rows["advantages"], _options(self.config))
        return {_LOSS: loss}, metrics, extras

    def _at_positions(self, params: Params, batch: Batch) -> Scores:
        model, config = join_params(self.structure, params), self.config
        decoded = model.decoded(
            batch["input_ids"],
            **segments_of(batch),
            **training_pass(config, batch),
        )
        hidden = decoded.hidden
        logps, entropies = token_logps(
            hidden.reshape(-1, hidden.shape[-1]),
            model.linear_head(),
            _targets(batch),
            temperature=config.temperature,
            with_entropy=True,
        )
        router = router_part(config, model, decoded, batch)
        return {"logps": logps, "entropies": jax.lax.stop_gradient(entropies), **router}


def objective_metrics(config: GRPOConfig) -> set[str]:
    """Returns names of the metrics that the loss gives."""
    position, row = jnp.zeros(1), jnp.ones(1)
    tokens = Tokens(position, position, position, position, position, position)
    options = _options(config)
    _, metrics = jax.eval_shape(lambda: grpo_loss(tokens, Rows(jnp.ones(1, jnp.int32), row), row, options))
    return set(metrics)


def make_logps_step(structure: Any, config: GRPOConfig, *, mesh: Mesh | None = None) -> Compiled:
    """Returns a function `(params, batch [micro-batches, bins, length]) -> log-probabilities` of the same shape.

    Each is of the token that its position predicts; 0 where that token is not a completion's, or does not count.

    Args:
        structure: of the model.
        config: names the temperature.
        mesh: the devices that share the work; `None` = one device.
    """

    def logps_of(model: Any, batch: Batch) -> Float[Array, "bins length"]:
        hidden = model.hidden(batch["input_ids"], **segments_of(batch), **scoring_pass(config))
        flat = hidden.reshape(-1, hidden.shape[-1])
        logps = token_logps(flat, model.linear_head(), _targets(batch), temperature=config.temperature)
        return logps.reshape(batch["input_ids"].shape)

    def logps_step(params: Params, batch: Batch) -> jax.Array:
        compiled.compilations += 1
        model = join_params(structure, params)
        return jax.lax.map(lambda part: logps_of(model, part), batch)

    compiled = Compiled(jax.jit(logps_step, **results_everywhere(mesh)), mesh=mesh)
    return compiled


_KNOWN = ("old_logps", "reference_logps", "corrections")


def _targets(batch: Batch) -> Int[Array, " N"]:
    return next_labels(batch["labels"]).reshape(-1)


def _mask(batch: Batch) -> Float[Array, " N"]:
    return (_targets(batch) != IGNORE_INDEX).astype(jnp.float32)


def _options(config: GRPOConfig) -> GRPOOptions:
    return GRPOOptions(
        loss_type=config.loss_type,
        ratio_level=config.importance_sampling_level,
        epsilon=config.epsilon,
        epsilon_high=config.upper_clip,
        delta=config.delta,
        beta=config.beta,
        use_bias_correction_kl=config.use_bias_correction_kl,
        sapo_temperature_pos=config.sapo_temperature_pos,
        sapo_temperature_neg=config.sapo_temperature_neg,
    )
