"""Where parameters lie on a mesh, how they get there, and how they come back."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from easydel_models.config import DecoderConfig
from easydel_models.errors import MeshError
from easydel_models.mesh import EP, FSDP, TP
from easydel_models.mesh.partitioning import partition_spec, partition_specs
from easydel_models.parameters import Params, parameter_specs


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
    return {path: param_sharding(path, spec.full_shape, mesh) for path, spec in specs.items()}


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


def to_host(array: Array | np.ndarray) -> np.ndarray:
    """Returns the whole array, wherever its parts are. With several processes, all must call it together."""
    if isinstance(array, np.ndarray) or array.is_fully_addressable or array.is_fully_replicated:
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
    kinds = dict.fromkeys(config.all_layers)
    parts = {part for layer in kinds for half in (layer.mixer, layer.feed_forward) for part in half.parts().items()}
    experts = {layer.feed_forward.num_experts() for layer in kinds} - {0}
    if mesh.shape[EP] > 1 and not experts:
        raise MeshError(f"ep={mesh.shape[EP]} cuts experts, and this model has none. Give those devices to dp or fsdp.")
    cut = [
        *((TP, *part) for part in sorted(parts)),
        *((EP, "experts", count) for count in sorted(experts)),
        (FSDP, "dim", config.dim),
        (FSDP, "width of what layers alone are told, all together", config.num_layers * config.own_inputs),
    ]
    for axis, what, size in cut:
        if size % mesh.shape[axis]:
            raise MeshError(
                f"{axis}={mesh.shape[axis]} does not divide the model's {what} ({size}). "
                f"Choose {axis} among {_divisors(size)}."
            )


def _is_spec(value: object) -> bool:
    return isinstance(value, PartitionSpec)


def _divisors(size: int) -> list[int]:
    return [part for part in range(1, size + 1) if size % part == 0][:12]
