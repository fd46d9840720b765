"""From named tensors to stacked parameters and back, by the family's table of names.

A `TensorSource` is what every file format offers: tensor name -> something that knows its shape and can be
read. Everything is checked against the shapes alone; then one parameter at a time is read, layer by layer
straight into its stacked array, so that the weights are never in memory twice.
"""

import dataclasses
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from easydel_models.config import DecoderConfig
from easydel_models.errors import WeightsError
from easydel_models.families import family_of
from easydel_models.families.stored import Stored
from easydel_models.families.wrappers import Spelling
from easydel_models.layers.parameter import ParameterSpec
from easydel_models.layers.stacks import stacks
from easydel_models.mesh.sharding import check_fits, param_sharding, place, to_host
from easydel_models.parameters import (
    Params,
    flattened,
    init_parameter,
    nested,
    parameter_specs,
    stack_paths,
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
    source = _in_our_spelling(source, config)
    check_tensors(source, config, fresh=fresh.keys())
    if mesh is not None:
        check_fits(config, mesh)
    flat = {}
    for part in _parts(config, source):
        drawn = {path: fresh[path] for path in part.paths if path in fresh}
        read = {} if len(drawn) == len(part.paths) else _read(source, part, dtype)
        for path, spec in zip(part.paths, part.specs.values(), strict=True):
            sharding = None if mesh is None else param_sharding(path, spec.full_shape, mesh)
            if path in fresh:
                flat[path] = init_parameter(path, spec, config, key_of_seed(fresh[path]), dtype, sharding=sharding)
            else:
                # What one tensor holds is at a time on both host and device; this is the only doubling.
                array = read[path]
                flat[path] = jnp.asarray(array) if sharding is None else place(array, sharding)
    return nested({path: flat[path] for path in parameter_specs(config)})


def check_tensors(source: TensorSource, config: DecoderConfig, *, fresh: Collection[str] = ()) -> None:
    """Compares names and shapes in ``source`` with those ``config`` asks for, reading no tensor.

    Raises:
        WeightsError: Naming the tensors, files and shapes that differ, and what to do.
    """
    source = _in_our_spelling(source, config)
    parts = [part for part in _parts(config, source) if not set(part.paths) <= set(fresh)]
    expected = {name: shape for part in parts for name, shape in part.tensors()}
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
    """Yields every tensor under its Hugging Face name, as transformers has it, one at a time."""
    flat = flattened(params)
    for part in _parts(config):
        arrays = {name: flat[path] for name, path in zip(part.specs, part.paths, strict=True)}
        for number, layer in enumerate(part.layers):
            values = {name: to_host(array if layer is None else array[number]) for name, array in arrays.items()}
            for template, tensor in part.stored.write(values, part.specs).items():
                yield part.name(template, layer), np.ascontiguousarray(tensor)


def _in_our_spelling(source: TensorSource, config: DecoderConfig) -> TensorSource:
    """Returns the tensors by the names of the family's list, if the file has them under another beginning."""
    names = {name for part in _parts(config) for name, _ in part.tensors()}
    for ours, theirs in family_of(config.model_type).spellings:
        theirs_of = {theirs + name.removeprefix(ours): name for name in names if name.startswith(ours)}
        if not names & source.keys() and theirs_of.keys() & source.keys():
            return {theirs_of.get(name, name): tensor for name, tensor in source.items()}
    return source


def take_part(params: Params, config: DecoderConfig) -> None:
    """What the other processes do while one goes through `export_tensors`: give it their parts, and keep nothing."""
    for _ in export_tensors(params, config):
        pass


def export_shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every tensor `export_tensors` yields, in its order."""
    return {name: shape for part in _parts(config) for name, shape in part.tensors()}


def tensor_names(config: DecoderConfig, path: str) -> list[str]:
    """Returns the names of the tensors that make up parameter ``path``: one, or one per layer."""
    part = next((part for part in _parts(config) if path in part.paths), None)
    if part is None:  # a parameter that only another head has
        stored = next(one for one in family_of(config.model_type).tensors if path in one.holds())
        name = f"{stored.module(path)}.weight"
        return [config.spelling.of(name) if config.wrapped_in else name]
    return list(dict.fromkeys(name for name, _ in part.tensors()))


def expected_names(config: DecoderConfig) -> set[str]:
    """Returns the names of all tensors that the decoder reads."""
    return {name for part in _parts(config) for name, _ in part.tensors()}


@dataclasses.dataclass(frozen=True, slots=True)
class HeldKernel:
    """What a model of transformers 5 holds as one kernel (or one of each expert), in each layer of a stack of ours."""

    paths: tuple[str, ...]
    """Of our kernels that it consists of, their outputs behind one another or as `outputs` says."""
    names: tuple[str, ...]
    """In each layer: of the linear layer, or of the parameter where it is none's weight."""
    in_linear_layer: bool
    """Whether it is the weight of a linear layer."""
    outputs: np.ndarray
    """For each of its outputs, its position among those of the paths behind one another."""


def held_kernels(config: DecoderConfig) -> list[HeldKernel]:
    """Returns all kernels of layers as transformers 5 holds them, in the family's order."""
    found = []
    for part in _parts(config, held=True):
        spec = part.specs[part.paths[0].rpartition(".")[2]]
        held_as = part.stored.adapted_as()
        if spec.kind not in ("kernel", "kernels") or not spec.stacked or held_as is None:
            continue
        (tensor,) = part.stored.shapes(part.specs)
        template = f"{part.stored.module(part.paths[0])}." if held_as == "module" else tensor
        names = tuple(part.name(template, layer).removesuffix(".") for layer in part.layers)
        found.append(HeldKernel(part.paths, names, held_as == "module", part.stored.outputs(part.specs)))
    return found


@dataclasses.dataclass(frozen=True, slots=True)
class _Part:
    """Parameters that files hold together, in all layers of a stack."""

    stored: Stored
    paths: tuple[str, ...]
    specs: dict[str, ParameterSpec]
    """By name, in the order of the paths."""
    layers: tuple[int | None, ...]
    """Numbers of the layers; None alone = it is none of a layer."""
    spelling: Spelling | None
    """How names begin in a checkpoint of which the decoder is a part."""

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        for layer in self.layers:
            for template, shape in self.stored.shapes(self.specs).items():
                yield self.name(template, layer), shape

    def name(self, template: str, layer: int | None) -> str:
        own = template.format(layer=layer)
        return own if self.spelling is None else self.spelling.of(own)


def _parts(config: DecoderConfig, source: Collection[str] | None = None, *, held: bool = False) -> list[_Part]:
    """Returns what the family's list comes to for this decoder: the parameters of each stack, then those of none.

    Where the list has several ways for one parameter, the first whose tensors are all in ``source`` is taken, or the
    first of all; the last, which is how transformers holds it in memory, if that is asked for (``held``).
    """
    flat, parts = parameter_specs(config), []
    spelling = config.spelling if config.wrapped_in else None
    numbers = dict(zip(stack_paths(config), (stack.numbers for stack in stacks(config.all_layers)), strict=True))
    groups: dict[str, dict[str, ParameterSpec]] = {}
    for path, spec in flat.items():
        stack, _, name = path.rpartition(".")
        groups.setdefault(stack, {})[name] = spec
    for stack, specs in groups.items():
        candidates = []
        for stored in family_of(config.model_type).tensors:
            if all(name in specs for name in stored.holds()):
                own = {name: specs[name] for name in stored.holds()}
                paths = tuple(f"{stack}.{name}" if stack else name for name in own)
                candidates.append(_Part(stored, paths, own, numbers.get(stack, (None,)), spelling))
        parts += _one_way_each(candidates[::-1] if held else candidates, source)[:: -1 if held else 1]
    covered = {path for part in parts for path in part.paths}
    if nameless := [path for path in flat if path not in covered]:
        raise WeightsError(f"the family {config.model_type!r} has no name for the tensor of {nameless[0]}.")
    return parts


def _one_way_each(candidates: list[_Part], source: Collection[str] | None) -> list[_Part]:
    def there(part: _Part) -> bool:
        return source is not None and all(name in source for name, _ in part.tensors())

    # Stable: those that are there first, each group in the family's order.
    chosen: list[_Part] = []
    for part in sorted(candidates, key=lambda part: not there(part)):
        if not any(set(part.paths) & set(other.paths) for other in chosen):
            chosen.append(part)
    return sorted(chosen, key=candidates.index)


def _read(source: TensorSource, part: _Part, dtype: np.dtype) -> dict[str, np.ndarray]:
    arrays = {name: np.empty(spec.full_shape, dtype) for name, spec in part.specs.items()}
    templates = list(part.stored.shapes(part.specs))
    for number, layer in enumerate(part.layers):
        tensors = {template: source[part.name(template, layer)].load() for template in templates}
        for name, value in part.stored.read(tensors, part.specs).items():
            slot = arrays[name] if layer is None else arrays[name][number]
            slot[...] = value
    return dict(zip(part.paths, arrays.values(), strict=True))


def _is_redundant(name: str, config: DecoderConfig) -> bool:
    # A tied head may be stored all the same; old files keep the rope frequencies, which follow from the
    # config.
    tied_head = config.tie_embeddings and name in tensor_names(config, "head")
    patterns = (r".*rotary_emb\.inv_freq", *family_of(config.model_type).redundant)
    return tied_head or any(re.fullmatch(pattern, name) for pattern in patterns)


def _report(problems: Sequence[str], config: DecoderConfig) -> str:
    shown = "\n  ".join(problems[:_SHOWN])
    more = f"\n  … and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return (
        f"the weights do not fit the configuration ({config.model_type}, {config.num_layers} layers of "
        f"{config.dim}, vocabulary {config.vocab_size}):\n  {shown}{more}\n"
        "Either config.json belongs to another model, or files are missing or cut short: fetch the folder again."
    )
