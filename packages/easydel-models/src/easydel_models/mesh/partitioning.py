"""The logical axes of each parameter, and which mesh axis cuts which logical axis.

The first table is data beside the model, the second the one place where the two kinds of axes meet. Norms and biases of
the model's width are small, and whole on every device.
"""

from typing import Any

import jax
from jax.sharding import AbstractMesh, Mesh, PartitionSpec

from easydel_models.layers import attention, convolution, delta_net, experts, gated, latent_attention, layer
from easydel_models.layers.linear import LORA_A, LORA_B
from easydel_models.mesh import EP, FSDP, TP

Params = dict[str, Any]

_KINDS = (layer, attention, gated, experts, latent_attention, delta_net, convolution)
_OF_LAYERS = {name: axes for kind in _KINDS for name, axes in kind.AXES.items()}
"""What the kinds of layers say of their parameters; a name means the same axes in each of them."""

LOGICAL_AXES: dict[str, tuple[str, ...]] = {
    "embedding": ("vocab", "embed"),
    "position_embedding": ("positions", "embed"),
    "own_embedding": ("vocab", "embed"),
    "own_projection": ("embed", "own_inputs"),
    "own_norm": ("width",),
    "final_norm": ("width",),
    "final_norm_bias": ("width",),
    "head": ("vocab", "embed"),
    "score": ("labels", "embed"),
    **{name: ("layers", *axes) for name, axes in _OF_LAYERS.items()},
}

RULES: dict[str, str] = {"embed": FSDP, "experts": EP, "heads": TP, "kv_heads": TP, "mlp": TP, "vocab": TP}
"""Logical axis -> the mesh axis that cuts it. Axes that are not named stay whole."""


def logical_axes(params: Params) -> Params:
    """Returns a tree like ``params`` whose leaves are tuples of logical axis names, one per dimension."""
    return jax.tree_util.tree_map_with_path(lambda path, _: _axes_of(path[-1].key), params)


def partition_specs(params: Params, mesh: Mesh | AbstractMesh) -> Params:
    """Returns a tree like ``params``, of arrays or shapes, that says which mesh axis cuts which dimension."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: partition_spec(path[-1].key, tuple(leaf.shape), mesh), params
    )


def partition_spec(name: str, shape: tuple[int, ...], mesh: Mesh | AbstractMesh) -> PartitionSpec:
    """Returns how the parameter ``name`` (the last part of its path) is cut."""
    return PartitionSpec(*(_cut(axis, size, mesh) for axis, size in zip(_axes_of(name), shape, strict=True)))


def _axes_of(name: str) -> tuple[str, ...]:
    if name.endswith(LORA_A):
        return (*LOGICAL_AXES[name.removesuffix(LORA_A)][:-1], "rank")
    if name.endswith(LORA_B):
        *before, _, out = LOGICAL_AXES[name.removesuffix(LORA_B)]
        return (*before, "rank", out)
    return LOGICAL_AXES[name]


def _cut(axis: str, size: int, mesh: Mesh | AbstractMesh) -> str | None:
    by = RULES.get(axis)
    # A vocabulary of odd size (tokens were added) stays whole on every device of `tp`, rather than being refused.
    return None if by is None or (axis == "vocab" and size % mesh.shape[by]) else by
