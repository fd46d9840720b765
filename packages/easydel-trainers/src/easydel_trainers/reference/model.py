"""The reference's log-probabilities of a batch: one small compiled program, run before the training step.

They are added to the batch under `rows`, as `reference_logps` `[micro-batches, sequences, rows]`; the step does not
know where they come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, final

import jax
import jax.numpy as jnp
import numpy as np
from easydel_models.adapters.lora import combine_params, split_trainable, without_lora
from easydel_models.mesh.sharding import place, to_host
from easydel_models.parameters import flattened, join_params, nested, split_params
from jax.sharding import Mesh, NamedSharding

from easydel_trainers.config import TrainerConfig
from easydel_trainers.errors import CheckpointError, ConfigError
from easydel_trainers.model.loading import load_causal_lm
from easydel_trainers.preference.scores import sequence_logps
from easydel_trainers.run.callbacks import Callback
from easydel_trainers.step.compiled import Compiled
from easydel_trainers.step.device_mesh import results_everywhere
from easydel_trainers.step.forward import scoring_pass
from easydel_trainers.step.objective import Batch, Params

if TYPE_CHECKING:
    from easydel_trainers.run.view import RunView


def make_reference_step(
    structure: Any, config: TrainerConfig, *, sequences: int, ld_alpha: float | None, mesh: Mesh | None = None
) -> Compiled:
    """Returns a function `(params, batch) -> logps [micro-batches, sequences, rows]`.

    Args:
        structure: of the reference model.
        config: names the attention, and how long sequences are.
        sequences: of every row.
        ld_alpha: see `sequence_scores`.
        mesh: the devices that share the work; `None` = one device.
    """

    def reference_step(params: Params, batch: Batch) -> jax.Array:
        compiled.compilations += 1
        model = join_params(structure, params)
        return jax.lax.map(
            lambda part: sequence_logps(model, part, sequences=sequences, ld_alpha=ld_alpha, **scoring_pass(config)),
            batch,
        )

    compiled = Compiled(jax.jit(reference_step, **results_everywhere(mesh)), mesh=mesh)
    return compiled


def with_reference(batch: Batch, logps: jax.Array) -> Batch:
    """Returns the batch with the reference's log-probabilities."""
    return {**batch, "rows": {**batch["rows"], "reference_logps": logps}}


@final
class ReferenceModel:
    """A model of its own, held beside the policy.

    Args:
        params: its parameters.
        step: made by `make_reference_step` for its structure.
    """

    def __init__(self, params: Params, step: Compiled):
        self._params, self._step = params, step
        self._follows = False

    def annotate(self, batch: Batch) -> Batch:
        """Returns the batch with this model's log-probabilities."""
        return with_reference(batch, self.logps(batch))

    def logps(self, batch: Batch) -> jax.Array:
        """Returns what its step computes of a batch."""
        return self._step(self._params, batch)

    def follow(self, policy: Params, *, alpha: float) -> None:
        r"""Moves towards the policy: $\theta_\mathrm{ref} \leftarrow \alpha\theta + (1-\alpha)\theta_\mathrm{ref}$.

        Gorbatovski et al. 2024 (TR-DPO), https://arxiv.org/abs/2404.09656, eq. 4.
        """
        if not self._follows:
            # An average that moves by less than bfloat16 can tell would stand still.
            self._params, self._follows = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), self._params), True
        self._params = _mixed(policy, self._params, jnp.float32(alpha))

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the parameters on the host, by path, for a checkpoint."""
        return {path: to_host(leaf) for path, leaf in flattened(self._params).items()}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Takes back what `arrays` gave."""
        held = flattened(self._params)
        if held.keys() != arrays.keys():
            raise CheckpointError(
                "The checkpoint holds another reference model than this run has. Give the run the reference_model "
                "it was started with, or another save_directory."
            )
        self._params = nested({path: _like(leaf, arrays[path]) for path, leaf in held.items()})


class FollowingOptions(Protocol):
    """What a config says of it."""

    @property
    def ref_model_mixup_alpha(self) -> float:
        """Share of the policy in the reference at each sync."""
        ...

    @property
    def ref_model_sync_steps(self) -> int:
        """Steps between two syncs."""
        ...


@final
class Following(Callback):
    """Moves the reference towards the policy.

    Args:
        reference: held beside the policy.
        options: how far, and how often.
    """

    def __init__(self, reference: ReferenceModel, options: FollowingOptions):
        self._reference, self._options = reference, options

    def on_step(self, run: RunView) -> None:
        """Sync where one is due."""
        if run.step % self._options.ref_model_sync_steps == 0:
            self._reference.follow(run.params, alpha=self._options.ref_model_mixup_alpha)


def own_reference(policy: Any, config: TrainerConfig) -> Any:
    """Returns the policy as it is before training; where the trainer adds the adapters, which change nothing yet, the
    base.
    """
    return policy if config.lora is None else without_lora(policy)


def load_reference(reference_model: Any, policy: Any, config: TrainerConfig) -> Any:
    """Returns the model to compare the policy with: `None` = `own_reference`, else a model, a folder, Hub id or `.gguf`
    file.

    Raises:
        ConfigError: if it knows other tokens.
    """
    if reference_model is None:
        return own_reference(policy, config)
    if reference_model is policy:
        return policy
    reference = load_causal_lm(reference_model, config)
    theirs, ours = reference.config.vocab_size, policy.config.vocab_size
    if theirs != ours:
        raise ConfigError(
            "reference_model",
            f"a model of {theirs} tokens",
            f"one of {ours} tokens, as the policy has: log-probabilities over other vocabularies do not compare. "
            "Leave reference_model out to compare with the policy as it is now",
        )
    return reference


def held_params(reference: Any, policy: Any) -> Params:
    """Returns parameters of a reference that stay: a copy of those that are the policy's own and that its step gives
    away.
    """
    params = split_params(reference)[1]
    if reference is not policy:
        return params
    trained, frozen = split_trainable(params)
    return combine_params(jax.tree.map(jnp.copy, trained), frozen)


def _like(held: jax.Array, array: np.ndarray) -> jax.Array:
    values = np.asarray(array)  # in its own type: an average is held in float32 whatever the parameters are
    return place(values, held.sharding) if isinstance(held.sharding, NamedSharding) else jnp.asarray(values)


@jax.jit
def _mixed(policy: Params, reference: Params, alpha: jax.Array) -> Params:
    return jax.tree.map(lambda new, old: (alpha * new + (1 - alpha) * old).astype(old.dtype), policy, reference)
