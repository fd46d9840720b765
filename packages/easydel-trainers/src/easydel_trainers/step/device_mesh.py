"""The mesh of a run, and where batches and state lie on it.

Rows of a batch are cut over `dp`, `fsdp` and `ep`, their tokens over `sp`. Optimizer state lies where its parameters
lie. What is said of rows as a whole, scalars and metrics are whole on every device. A run on one device has no mesh.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import optax
from easydel_models.mesh import MESH_AXES, ROW_AXES, SP, cuts, make_mesh, mesh_shape
from easydel_models.mesh.sharding import check_fits, laid_out, param_shardings, place
from easydel_models.parameters import split_params, update_params
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from easydel_trainers.config import TrainerConfig
from easydel_trainers.errors import ConfigError

_BUCKET_STEP = 16  # without `length_buckets` every length is a multiple of it


def training_mesh(config: TrainerConfig) -> Mesh | None:
    """Returns the mesh that `config` asks for; `None` = one device.

    Raises:
        MeshError: if the axes and the devices there are do not go together.
    """
    return _mesh(tuple(getattr(config, axis) for axis in MESH_AXES), jax.device_count())


def check_batches(config: TrainerConfig, mesh: Mesh | None) -> None:
    """Compares the sizes of batches with the mesh.

    Raises:
        ConfigError: naming the numbers that do not divide.
    """
    if mesh is None:
        return
    parts = row_parts(mesh)
    if config.total_batch_size % (parts * config.gradient_accumulation_steps):
        raise ConfigError(
            "total_batch_size",
            config.total_batch_size,
            f"a multiple of {parts * config.gradient_accumulation_steps}: dp x fsdp x ep = {parts} devices share the "
            f"rows of each of {config.gradient_accumulation_steps} micro-batches evenly; tp and sp cut other things",
        )
    for length in config.length_buckets or (_BUCKET_STEP,):
        if length % mesh.shape[SP]:
            raise ConfigError(
                "sp",
                mesh.shape[SP],
                f"a divisor of every length of a batch, and so of {length}"
                + ("" if config.length_buckets else "; length_buckets chooses other lengths"),
            )


def row_parts(mesh: Mesh | None) -> int:
    """Returns the number of parts that the rows of a micro-batch are cut into."""
    return 1 if mesh is None else cuts(mesh, ROW_AXES)


def on_mesh(model: Any, mesh: Mesh | None) -> Any:
    """Returns the model with its parameters laid over the mesh, in place.

    Raises:
        MeshError: if the mesh cannot cut this model.
    """
    if mesh is not None:
        check_fits(model.config, mesh)
        update_params(model, laid_out(split_params(model)[1], mesh))
    return model


def put_batch(arrays: Mapping[str, Any], mesh: Mesh | None) -> dict[str, Any]:
    """Returns a step's arrays on the devices; every process holds all of them, and each device receives its own part
    alone.
    """
    if mesh is None:
        return jax.device_put(dict(arrays))

    def put(path: Any, array: np.ndarray) -> jax.Array:
        return place(array, _of_batch(path, array, mesh))

    return jax.tree_util.tree_map_with_path(put, dict(arrays))


def replicated(tree: Any, mesh: Mesh | None) -> Any:
    """Returns a tree whose arrays are whole on every device."""
    return tree if mesh is None else jax.tree.map(lambda leaf: place(leaf, everywhere(mesh)), tree)


def everywhere(mesh: Mesh) -> NamedSharding:
    """Returns the placement of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def results_everywhere(mesh: Mesh | None) -> dict[str, Any]:
    """Returns options of `jax.jit` for results that every device, and so every process, holds whole."""
    return {} if mesh is None else {"out_shardings": everywhere(mesh)}


def init_optimizer(optimizer: optax.GradientTransformation, params: Any, mesh: Mesh | None) -> optax.OptState:
    """Returns fresh optimizer state. What is of a parameter's shape lies where the parameter lies, from the
    beginning.
    """
    if mesh is None:
        return optimizer.init(params)
    shapes = jax.eval_shape(optimizer.init, params)
    known = {
        _names(path): (leaf.shape, sharding)
        for (path, leaf), sharding in zip(
            jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(param_shardings(params, mesh)), strict=True
        )
    }

    def where(path: Any, leaf: Any) -> NamedSharding:
        names = _names(path)
        for start in range(len(names)):
            shape, sharding = known.get(names[start:], (None, None))
            if sharding is not None and shape == leaf.shape:
                return sharding
        return everywhere(mesh)

    return jax.jit(optimizer.init, out_shardings=jax.tree_util.tree_map_with_path(where, shapes))(params)


def placements(tree: Any) -> Any:
    """Returns where the arrays of a tree lie."""
    return jax.tree.map(lambda leaf: leaf.sharding, tree)


@functools.cache
def _mesh(sizes: tuple[int, ...], devices: int) -> Mesh | None:
    dp, fsdp, ep, tp, sp = sizes
    mesh_shape(dp=dp, fsdp=fsdp, ep=ep, tp=tp, sp=sp, devices=devices)
    return None if devices == 1 else make_mesh(dp=dp, fsdp=fsdp, ep=ep, tp=tp, sp=sp)


def _of_batch(path: Any, array: np.ndarray, mesh: Mesh) -> NamedSharding:
    """Arrays of tokens are `[micro-batches, bins, length]`; those under `rows` are small and whole."""
    if "rows" in _names(path) or np.ndim(array) != 3:
        return everywhere(mesh)
    _, bins, length = array.shape
    divides = bins % row_parts(mesh) == 0 and length % mesh.shape[SP] == 0
    return NamedSharding(mesh, PartitionSpec(None, ROW_AXES, SP)) if divides else everywhere(mesh)


def _names(path: Any) -> tuple[str, ...]:
    return tuple(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path)
