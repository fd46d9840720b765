"""A linear head on a mesh: every device works through its own tokens, against its own part of the vocabulary.

`fsdp` gathers that part of the head once; over `tp` only numbers per token travel. Without a mesh in force the same
code runs on one device.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.sharding import AbstractMesh, PartitionSpec
from jaxtyping import Array, Float, Int

from easydel_models.lm_loss.chunks import WHOLE, Vocabulary
from easydel_models.mesh import FSDP, MESH_AXES, ROW_AXES, SP, TOKEN_AXES, active_mesh, cuts
from easydel_models.mesh.partitioning import partition_spec

Run = Callable[[Array, Array, Array, Vocabulary], Any]
"""From hidden states [N, D], head [V, D], labels [N] and what part of the vocabulary the head is, to arrays [N], or
scalars."""


def over_tokens(
    run: Run, hidden: Float[Array, "*N D"], head: Float[Array, "V D"], labels: Int[Array, "*N"], *, summed: bool
) -> Any:
    """Runs a head over all tokens.

    Args:
        run: The head, on one device's tokens.
        hidden: Hidden states, [N, D] or [rows, tokens, D].
        head: Output embedding.
        labels: One for each hidden state.
        summed: Whether ``run`` gives sums over tokens, which are then summed over devices; else it gives one number
            per token, which come back in the shape of ``labels``.
    """
    mesh = active_mesh()
    if mesh is None or not _divides(mesh, labels):
        return _shaped(run(hidden.reshape(-1, hidden.shape[-1]), head, labels.reshape(-1), WHOLE), labels, summed)
    cut = partition_spec("head", head.shape, mesh)
    vocabulary = WHOLE if cut[0] is None or mesh.shape[cut[0]] == 1 else Vocabulary(cut[0], MESH_AXES)

    def on_device(hidden: Array, head: Array, labels: Array) -> Any:
        if mesh.shape[FSDP] > 1:
            head = lax.all_gather(head, FSDP, axis=1, tiled=True)
        result = run(hidden.reshape(-1, hidden.shape[-1]), head, labels.reshape(-1), vocabulary)
        return lax.psum(result, TOKEN_AXES) if summed else _shaped(result, labels, summed)

    tokens = _token_axes(labels)
    return jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(PartitionSpec(*tokens, None), cut, PartitionSpec(*tokens)),
        out_specs=PartitionSpec() if summed else PartitionSpec(*tokens),
        check_vma=False,
    )(hidden, head, labels)


def _token_axes(labels: Array) -> tuple[Any, ...]:
    return (ROW_AXES, SP) if labels.ndim == 2 else (TOKEN_AXES,)


def _divides(mesh: AbstractMesh, labels: Array) -> bool:
    parts = [cuts(mesh, (axes,) if isinstance(axes, str) else axes) for axes in _token_axes(labels)]
    return all(size % part == 0 for size, part in zip(labels.shape, parts, strict=True)) and math.prod(labels.shape) > 0


def _shaped(result: Any, labels: Array, summed: bool) -> Any:
    return result if summed else jax.tree.map(lambda values: values.reshape(labels.shape), result)
