"""How parameters lie in files: under which names, and what files fuse, transpose or split.

A family lists one `Stored` for each parameter or group of parameters that its files hold together. Names are templates:
``{layer}`` stands for the layer's number. Which of them a decoder has follows from its parameters.
"""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal, final

import numpy as np

from easydel_models.layers.parameter import ParameterSpec

Specs = Mapping[str, ParameterSpec]

AdaptedAs = Literal["module", "parameter"]
"""``module``: transformers holds it as the weight of a linear layer; ``parameter``: in none, by itself."""


class Stored(abc.ABC):
    """One way of storing some parameters of a layer, or of the whole decoder; final implementations below."""

    __slots__ = ()

    @abc.abstractmethod
    def holds(self) -> tuple[str, ...]:
        """Returns names of the parameters, such as ``query``."""

    @abc.abstractmethod
    def shapes(self, specs: Specs) -> dict[str, tuple[int, ...]]:
        """Returns the templates of the tensors' names, with the shape of each in a file."""

    @abc.abstractmethod
    def read(self, tensors: Mapping[str, np.ndarray], specs: Specs) -> dict[str, np.ndarray]:
        """Returns one layer's parameters from its tensors, which are given by template."""

    @abc.abstractmethod
    def write(self, values: Mapping[str, np.ndarray], specs: Specs) -> dict[str, np.ndarray]:
        """Returns one layer's tensors, by template: the reverse of `read`."""

    @abc.abstractmethod
    def module(self, parameter: str) -> str:
        """Returns the template of what transformers calls the module that holds the parameter."""

    @abc.abstractmethod
    def adapted_as(self) -> AdaptedAs | None:
        """Returns what an adapter in a file would be one of."""

    @abc.abstractmethod
    def outputs(self, specs: Specs) -> np.ndarray:
        """Returns, for each output of the module, its position among those of the parameters behind one another."""


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Whole(Stored):
    """One tensor for one parameter."""

    parameter: str
    name: str
    as_is: bool = False
    """Whether a kernel is [in, out] in the file too, rather than [out, in]."""
    linear: bool = True
    """Whether transformers holds a kernel in a linear layer."""

    def holds(self) -> tuple[str, ...]:
        """See `Stored`."""
        return (self.parameter,)

    def shapes(self, specs: Specs) -> dict[str, tuple[int, ...]]:
        """See `Stored`."""
        spec = specs[self.parameter]
        return {self.name: spec.shape if self.as_is or spec.kind != "kernel" else spec.shape[::-1]}

    def read(self, tensors: Mapping[str, np.ndarray], specs: Specs) -> dict[str, np.ndarray]:
        """See `Stored`."""
        return {self.parameter: turned(tensors[self.name], specs[self.parameter], as_is=self.as_is)}

    def write(self, values: Mapping[str, np.ndarray], specs: Specs) -> dict[str, np.ndarray]:
        """See `Stored`."""
        return {self.name: turned(values[self.parameter], specs[self.parameter], as_is=self.as_is)}

    def module(self, parameter: str) -> str:
        """See `Stored`."""
        return module_of(self.name)

    def adapted_as(self) -> AdaptedAs | None:
        """See `Stored`."""
        return "module" if self.linear else "parameter"

    def outputs(self, specs: Specs) -> np.ndarray:
        """See `Stored`."""
        return side_by_side(self.holds(), specs)


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Fused(Stored):
    """One tensor for several linear layers of the same inputs, the outputs of one behind those of the other."""

    parameters: tuple[str, ...]
    name: str
    as_is: bool = False
    """See `Whole`."""

    def holds(self) -> tuple[str, ...]:
        """See `Stored`."""
        return self.parameters

    def shapes(self, specs: Specs) -> dict[str, tuple[int, ...]]:
        """See `Stored`."""
        first = specs[self.parameters[0]]
        outputs = sum(specs[name].shape[-1] for name in self.parameters)
        if len(first.shape) == 1:
            return {self.name: (outputs,)}
        return {self.name: (first.shape[0], outputs) if self.as_is else (outputs, first.shape[0])}

    def read(self, tensors: Mapping[str, np.ndarray], specs: Specs) -> dict[str, np.ndarray]:
        """See `Stored`."""
        ends = np.cumsum([specs[name].shape[-1] for name in self.parameters])[:-1]
        axis = -1 if self.as_is else 0
        parts = np.split(tensors[self.name], ends.tolist(), axis=axis)
        pairs = zip(self.parameters, parts, strict=True)
        return {name: turned(part, specs[name], as_is=self.as_is) for name, part in pairs}

    def write(self, values: Mapping[str, np.ndarray], specs: Specs) -> dict[str, np.ndarray]:
        """See `Stored`."""
        parts = [turned(values[name], specs[name], as_is=self.as_is) for name in self.parameters]
        return {self.name: np.concatenate(parts, axis=-1 if self.as_is else 0)}

    def module(self, parameter: str) -> str:
        """See `Stored`."""
        return module_of(self.name)

    def adapted_as(self) -> AdaptedAs | None:
        """See `Stored`."""
        return "module"

    def outputs(self, specs: Specs) -> np.ndarray:
        """See `Stored`."""
        return side_by_side(self.parameters, specs)


def turned(array: np.ndarray, spec: ParameterSpec, *, as_is: bool = False) -> np.ndarray:
    """Returns a kernel with its axes exchanged, [in, out] to [out, in] and back; all else as it is."""
    return array.T if spec.kind == "kernel" and not as_is else array


def side_by_side(parameters: Sequence[str], specs: Specs) -> np.ndarray:
    """Returns the positions of all outputs of some parameters in their order."""
    return np.arange(sum(specs[name].shape[-1] for name in parameters))


def module_of(name: str) -> str:
    """Returns the module's name for the name of its weight or bias."""
    return name.removesuffix(".weight").removesuffix(".bias")


def renamed(tensors: Sequence[Stored], names: Mapping[str, str]) -> tuple[Stored, ...]:
    """Returns the list with other names for some parameters that have a tensor each; a new parameter is added."""
    kept = tuple(stored for stored in tensors if not set(stored.holds()) & names.keys())
    return (*kept, *(Whole(parameter, name) for parameter, name in names.items()))


def replaced(tensors: Sequence[Stored], *others: Stored) -> tuple[Stored, ...]:
    """Returns the list with others in place of all that hold one of their parameters."""
    used = {name for stored in others for name in stored.holds()}
    return (*(stored for stored in tensors if not set(stored.holds()) & used), *others)


def linear_tensors(names: Mapping[str, str]) -> tuple[Stored, ...]:
    """Returns weight and bias of linear layers, by the module's name."""
    return tuple(
        Whole(parameter + ending, f"{module}.{kind}")
        for parameter, module in names.items()
        for ending, kind in (("", "weight"), ("_bias", "bias"))
    )
