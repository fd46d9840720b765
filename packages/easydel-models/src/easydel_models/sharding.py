"""Where parameters lie: the logical axes of each, and which mesh axis cuts which logical axis.

The first table is data beside the model, the second the one place where the two kinds of axes meet. Norms and biases of
the model's width are small, and whole on every device.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from easydel_models.config import DecoderConfig
from easydel_models.errors import MeshError
from easydel_models.layers import LORA_A, LORA_B
from easydel_models.mesh import FSDP, TP
from easydel_models.parameters import Params, full_shape, parameter_specs

LOGICAL_AXES: dict[str, tuple[str, ...]] = {
    "embedding": ("vocab", "embed"),
    "attention_norm": ("layers", "width"),
    "query": ("layers", "embed", "heads"),
    "query_bias": ("layers", "heads"),
    "key": ("layers", "embed", "kv_heads"),
    "key_bias": ("layers", "kv_heads"),
    "value": ("layers", "embed", "kv_heads"),
    "value_bias": ("layers", "kv_heads"),
    "output": ("layers", "heads", "embed"),
    "output_bias": ("layers", "width"),
    "mlp_norm": ("layers", "width"),
    "gate": ("layers", "embed", "mlp"),
    "gate_bias": ("layers", "mlp"),
    "up": ("layers", "embed", "mlp"),
    "up_bias": ("layers", "mlp"),
    "down": ("layers", "mlp", "embed"),
    "down_bias": ("layers", "width"),
    "final_norm": ("width",),
    "head": ("vocab", "embed"),
    "score": ("labels", "embed"),
}

RULES: dict[str, str] = {"embed": FSDP, "heads": TP, "kv_heads": TP, "mlp": TP, "vocab": TP}
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


def param_sharding(path: str, shape: tuple[int, ...], mesh: Mesh) -> NamedSharding:
    """Returns where the parameter at a dotted path lies."""
    return NamedSharding(mesh, partition_spec(path.rpartition(".")[2], shape, mesh))


def init_shardings(config: DecoderConfig, mesh: Mesh) -> dict[str, NamedSharding]:
    """Returns where every parameter of a fresh model lies, by path.

    Raises:
        MeshError: If the mesh cannot cut this model.
    """
    check_fits(config, mesh)
    specs = parameter_specs(config)
    return {path: param_sharding(path, full_shape(spec, config), mesh) for path, spec in specs.items()}


def param_shardings(params: Params, mesh: Mesh) -> Params:
    """Returns a tree like ``params`` of where each lies."""
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), partition_specs(params, mesh), is_leaf=_is_spec)


def laid_out(params: Params, mesh: Mesh) -> Params:
    """Returns the parameters where the mesh wants them; each array is moved on its own, if it has to be."""
    return jax.tree.map(place, params, param_shardings(params, mesh))


def place(array: Array | np.ndarray, sharding: NamedSharding) -> Array:
    """Puts an array that every process holds whole where ``sharding`` says; each device receives its own part alone."""
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        return array if array.sharding == sharding else jax.jit(lambda x: x, out_shardings=sharding)(array)
    if sharding.is_fully_addressable:
        return jax.device_put(array, sharding)
    host = np.asarray(array)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def to_host(array: Array) -> np.ndarray:
    """Returns the whole array, wherever its parts are. With several processes, all must call it together."""
    if array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    whole = NamedSharding(array.sharding.mesh, PartitionSpec())  # pyright: ignore[reportAttributeAccessIssue]
    return np.asarray(jax.jit(lambda x: x, out_shardings=whole)(array))


@contextmanager
def one_writer() -> Iterator[bool]:
    """Whether this process is the one that writes a file; on leaving, all have waited for it."""
    yield jax.process_index() == 0
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("written")


def check_fits(config: DecoderConfig, mesh: Mesh | AbstractMesh) -> None:
    """Compares a model's sizes with a mesh, before anything is allocated or compiled.

    Raises:
        MeshError: Naming the size and the axis that does not divide it.
    """
    sizes = {
        TP: {"attention heads": config.num_heads, "key/value heads": config.num_kv_heads, "mlp_dim": config.mlp_dim},
        FSDP: {"dim": config.dim},
    }
    for axis, parts in sizes.items():
        for what, size in parts.items():
            if size % mesh.shape[axis]:
                raise MeshError(
                    f"{axis}={mesh.shape[axis]} does not divide the model's {what} ({size}). "
                    f"Choose {axis} among {_divisors(size)}."
                )


def _axes_of(name: str) -> tuple[str, ...]:
    if name.endswith(LORA_A):
        return (*LOGICAL_AXES[name.removesuffix(LORA_A)][:2], "rank")
    if name.endswith(LORA_B):
        layers, _, out = LOGICAL_AXES[name.removesuffix(LORA_B)]
        return layers, "rank", out
    return LOGICAL_AXES[name]


def _cut(axis: str, size: int, mesh: Mesh | AbstractMesh) -> str | None:
    by = RULES.get(axis)
    # A vocabulary of odd size (tokens were added) stays whole on every device of `tp`, rather than being refused.
    return None if by is None or (axis == "vocab" and size % mesh.shape[by]) else by


def _is_spec(value: Any) -> bool:
    return isinstance(value, PartitionSpec)


def _divisors(size: int) -> list[int]:
    return [part for part in range(1, size + 1) if size % part == 0][:12]
