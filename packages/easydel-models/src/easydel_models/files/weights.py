"""From named tensors to stacked parameters and back, by the family's table of names.

A `TensorSource` is what every file format offers: tensor name -> something that knows its shape and can be
read. Everything is checked against the shapes alone; then one parameter at a time is read, layer by layer
straight into its stacked array, so that the weights are never in memory twice.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from easydel_models.config import DecoderConfig
from easydel_models.errors import WeightsError
from easydel_models.families import family_of
from easydel_models.mesh.sharding import check_fits, param_sharding, place, to_host
from easydel_models.parameters import (
    ParameterSpec,
    Params,
    flattened,
    full_shape,
    init_parameter,
    nested,
    parameter_specs,
)
from easydel_models.random_keys import key_of_seed


@runtime_checkable
class LazyTensor(Protocol):
    """A tensor in a file that has not been read yet."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape as transformers has it: kernels are [out, in]."""
        ...

    @property
    def origin(self) -> str:
        """The file it lies in, for error messages."""
        ...

    def load(self) -> np.ndarray:
        """Reads it; the values may be of any floating-point dtype."""
        ...


TensorSource = Mapping[str, LazyTensor]
"""The tensors of a model by their Hugging Face names."""

_SHOWN = 8
"""Most problems listed in one error: it must fit a screen."""


def load_params(
    source: TensorSource,
    config: DecoderConfig,
    *,
    dtype: np.dtype,
    fresh: Mapping[str, int] | None = None,
    mesh: Mesh | None = None,
) -> Params:
    """Reads all parameters of the model ``config`` describes.

    Args:
        source: Where the tensors are.
        config: Which parameters there must be.
        dtype: What they are converted to.
        fresh: Parameters to draw at random, with the seed of each, instead of reading them.
        mesh: Devices to lay them over, each of which receives its own parts alone; None = one device.

    Raises:
        MeshError: If the mesh cannot cut this model; nothing has been read then.
        WeightsError: If a tensor is missing, left over or of another shape; nothing has been allocated then.
    """
    fresh = fresh or {}
    specs = parameter_specs(config)
    check_tensors(source, config, fresh=fresh.keys())
    if mesh is not None:
        check_fits(config, mesh)
    flat = {}
    for path, spec in specs.items():
        sharding = None if mesh is None else param_sharding(path, full_shape(spec, config), mesh)
        if path in fresh:
            flat[path] = init_parameter(path, spec, config, key_of_seed(fresh[path]), dtype, sharding=sharding)
        else:
            # One parameter at a time is on both host and device; this is the only doubling.
            array = _read(source, tensor_names(config, path), spec, config, dtype)
            flat[path] = jnp.asarray(array) if sharding is None else place(array, sharding)
    return nested(flat)


def check_tensors(source: TensorSource, config: DecoderConfig, *, fresh: Collection[str] = ()) -> None:
    """Compares names and shapes in ``source`` with those ``config`` asks for, reading no tensor.

    Raises:
        WeightsError: Naming the tensors, files and shapes that differ, and what to do.
    """
    expected = {
        name: _file_shape(spec)
        for path, spec in parameter_specs(config).items()
        if path not in fresh
        for name in tensor_names(config, path)
    }
    problems = [f"{name}: missing, expected shape {shape}" for name, shape in expected.items() if name not in source]
    problems += [
        f"{name}: in {source[name].origin} of shape {tuple(source[name].shape)}, expected {shape}"
        for name, shape in expected.items()
        if name in source and tuple(source[name].shape) != shape
    ]
    problems += [
        f"{name}: in {source[name].origin}, but this configuration has no such parameter"
        for name in source
        if name not in expected and not _is_redundant(name, config)
    ]
    if problems:
        raise WeightsError(_report(problems, config))


def export_tensors(params: Params, config: DecoderConfig) -> Iterator[tuple[str, np.ndarray]]:
    """Yields every tensor under its Hugging Face name, [out, in], one at a time."""
    flat = flattened(params)
    for path, spec in parameter_specs(config).items():
        names = tensor_names(config, path)
        if not spec.stacked:
            yield names[0], to_host(flat[path])
            continue
        for layer, name in enumerate(names):
            tensor = to_host(flat[path][layer])
            yield name, np.ascontiguousarray(tensor.T) if spec.kind == "kernel" else tensor


def take_part(params: Params, config: DecoderConfig) -> None:
    """What the other processes do while one goes through `export_tensors`: give it their parts, and keep nothing."""
    for _ in export_tensors(params, config):
        pass


def export_shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every tensor `export_tensors` yields, in its order."""
    return {
        name: _file_shape(spec) for path, spec in parameter_specs(config).items() for name in tensor_names(config, path)
    }


def tensor_names(config: DecoderConfig, path: str) -> list[str]:
    """Returns the names of the tensors that make up parameter ``path``: one, or one per layer."""
    name = family_of(config.model_type).names[path]
    if not path.startswith("layers."):
        return [name]
    return [name.format(layer=layer) for layer in range(config.num_layers)]


def _read(
    source: TensorSource, names: Sequence[str], spec: ParameterSpec, config: DecoderConfig, dtype: np.dtype
) -> np.ndarray:
    stacked = np.empty(full_shape(spec, config), dtype)
    slots = stacked if spec.stacked else stacked[None]
    for slot, name in zip(slots, names, strict=True):
        tensor = source[name].load()
        slot[...] = tensor.T if spec.kind == "kernel" else tensor
    return stacked


def _file_shape(spec: ParameterSpec) -> tuple[int, ...]:
    return spec.shape[::-1] if spec.kind == "kernel" else spec.shape


def _is_redundant(name: str, config: DecoderConfig) -> bool:
    # A tied head may be stored all the same; old files keep the rope frequencies, which follow from the
    # config.
    tied_head = config.tie_embeddings and name == family_of(config.model_type).names["head"]
    return tied_head or name.endswith("rotary_emb.inv_freq")


def _report(problems: Sequence[str], config: DecoderConfig) -> str:
    shown = "\n  ".join(problems[:_SHOWN])
    more = f"\n  … and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return (
        f"the weights do not fit the configuration ({config.model_type}, {config.num_layers} layers of "
        f"{config.dim}, vocabulary {config.vocab_size}):\n  {shown}{more}\n"
        "Either config.json belongs to another model, or files are missing or cut short: fetch the folder again."
    )
