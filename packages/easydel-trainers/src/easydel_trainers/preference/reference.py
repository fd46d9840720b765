"""The reference's log-probabilities of a batch: one small compiled program, run before the training step.

They are added to the batch under `rows`, as `reference_logps` `[micro-batches, sequences, rows]`; the step does not
know where they come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from easydel_models.parameters import flattened, join_params, nested

from easydel_trainers.errors import CheckpointError
from easydel_trainers.preference.scores import sequence_logps
from easydel_trainers.step import Batch, Compiled, Params


def make_reference_step(structure: Any, *, sequences: int, ld_alpha: float | None, longest: int | None) -> Compiled:
    """A function `(params, batch) -> logps [micro-batches, sequences, rows]`.

    Args:
        structure: of the reference model.
        sequences: of every row.
        ld_alpha: see `sequence_scores`.
        longest: tokens of the longest sequence.
    """

    def reference_step(params: Params, batch: Batch) -> jax.Array:
        compiled.compilations += 1
        model = join_params(structure, params)
        return jax.lax.map(
            lambda part: sequence_logps(model, part, sequences=sequences, ld_alpha=ld_alpha, longest_segment=longest),
            batch,
        )

    compiled = Compiled(jax.jit(reference_step))
    return compiled


def with_reference(batch: Batch, logps: jax.Array) -> Batch:
    """The batch with the reference's log-probabilities."""
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

    def annotate(self, batch: Batch) -> Batch:
        """The batch with this model's log-probabilities."""
        return with_reference(batch, self._step(self._params, batch))

    def follow(self, policy: Params, *, alpha: float) -> None:
        r"""Move towards the policy: $\theta_\mathrm{ref} \leftarrow \alpha\theta + (1-\alpha)\theta_\mathrm{ref}$.

        Gorbatovski et al. 2024 (TR-DPO), https://arxiv.org/abs/2404.09656, eq. 4.
        """
        self._params = _mixed(policy, self._params, jnp.float32(alpha))

    def arrays(self) -> dict[str, np.ndarray]:
        """The parameters on the host, by path, for a checkpoint."""
        return {path: np.asarray(leaf) for path, leaf in flattened(self._params).items()}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take back what `arrays` gave."""
        held = flattened(self._params)
        if held.keys() != arrays.keys():
            raise CheckpointError(
                "The checkpoint holds another reference model than this run has. Give the run the reference_model "
                "it was started with, or another save_directory."
            )
        self._params = nested({path: jnp.asarray(arrays[path], leaf.dtype) for path, leaf in held.items()})


def copied_params(params: Params) -> Params:
    """A deep copy: the step gives away the arrays it trains."""
    return jax.tree.map(jnp.copy, params)


@jax.jit
def _mixed(policy: Params, reference: Params, alpha: jax.Array) -> Params:
    return jax.tree.map(lambda new, old: (alpha * new + (1 - alpha) * old).astype(old.dtype), policy, reference)
