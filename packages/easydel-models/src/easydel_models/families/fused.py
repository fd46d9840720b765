"""More ways in which files hold parameters: part by part of a head, expert by expert, or all experts in one tensor."""

import dataclasses
from collections.abc import Mapping
from typing import final

import numpy as np

from easydel_models.families.stored import AdaptedAs, Specs, Stored, module_of, side_by_side, turned


@final
@dataclasses.dataclass(frozen=True, slots=True)
class ByHead(Stored):
    """One tensor for several linear layers of the same inputs: of each head the outputs of all, then the next head."""

    parameters: tuple[str, ...]
    name: str

    def holds(self) -> tuple[str, ...]:
        """See `Stored`."""
        return self.parameters

    def shapes(self, specs: Specs) -> dict[str, tuple[int, ...]]:
        """See `Stored`."""
        outputs = sum(specs[name].shape[-1] for name in self.parameters)
        return {self.name: (outputs, *specs[self.parameters[0]].shape[:-1])}

    def read(self, tensors: Mapping[str, np.ndarray], specs: Specs) -> dict[str, np.ndarray]:
        """See `Stored`."""
        tensor, heads = tensors[self.name], specs[self.parameters[0]].heads
        ends = np.cumsum([specs[name].shape[-1] // heads for name in self.parameters])[:-1]
        parts = np.split(tensor.reshape(heads, -1, *tensor.shape[1:]), ends.tolist(), axis=1)
        flat = (part.reshape(-1, *tensor.shape[1:]) for part in parts)
        return {name: turned(part, specs[name]) for name, part in zip(self.parameters, flat, strict=True)}

    def write(self, values: Mapping[str, np.ndarray], specs: Specs) -> dict[str, np.ndarray]:
        """See `Stored`."""
        heads = specs[self.parameters[0]].heads
        parts = [turned(values[name], specs[name]) for name in self.parameters]
        by_head = [part.reshape(heads, -1, *part.shape[1:]) for part in parts]
        whole = np.concatenate(by_head, axis=1)
        return {self.name: whole.reshape(-1, *whole.shape[2:])}

    def module(self, parameter: str) -> str:
        """See `Stored`."""
        return module_of(self.name)

    def adapted_as(self) -> AdaptedAs | None:
        """See `Stored`."""
        return "module"

    def outputs(self, specs: Specs) -> np.ndarray:
        """See `Stored`."""
        heads, widths = specs[self.parameters[0]].heads, [specs[name].shape[-1] for name in self.parameters]
        behind = np.split(side_by_side(self.parameters, specs), np.cumsum(widths)[:-1].tolist())
        return np.concatenate([part.reshape(heads, -1) for part in behind], axis=1).reshape(-1)


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Taps(Stored):
    """One tensor [channels, 1, taps] for the convolutions of several parameters, one behind the other."""

    parameters: tuple[str, ...]
    name: str

    def holds(self) -> tuple[str, ...]:
        """See `Stored`."""
        return self.parameters

    def shapes(self, specs: Specs) -> dict[str, tuple[int, ...]]:
        """See `Stored`."""
        taps = specs[self.parameters[0]].shape[0]
        return {self.name: (sum(specs[name].shape[1] for name in self.parameters), 1, taps)}

    def read(self, tensors: Mapping[str, np.ndarray], specs: Specs) -> dict[str, np.ndarray]:
        """See `Stored`."""
        ends = np.cumsum([specs[name].shape[1] for name in self.parameters])[:-1]
        parts = np.split(tensors[self.name][:, 0].T, ends.tolist(), axis=1)
        return dict(zip(self.parameters, parts, strict=True))

    def write(self, values: Mapping[str, np.ndarray], specs: Specs) -> dict[str, np.ndarray]:
        """See `Stored`."""
        return {self.name: np.concatenate([values[name] for name in self.parameters], axis=1).T[:, None]}

    def module(self, parameter: str) -> str:
        """See `Stored`."""
        return module_of(self.name)

    def adapted_as(self) -> AdaptedAs | None:
        """See `Stored`."""
        return None

    def outputs(self, specs: Specs) -> np.ndarray:
        """See `Stored`."""
        return side_by_side(self.holds(), specs)


@final
@dataclasses.dataclass(frozen=True, slots=True)
class PerExpert(Stored):
    """A tensor [out, in] for each expert; ``{expert}`` stands for its number."""

    parameter: str
    name: str

    def holds(self) -> tuple[str, ...]:
        """See `Stored`."""
        return (self.parameter,)

    def shapes(self, specs: Specs) -> dict[str, tuple[int, ...]]:
        """See `Stored`."""
        experts, inputs, outputs = specs[self.parameter].shape
        return {self._of(expert): (outputs, inputs) for expert in range(experts)}

    def read(self, tensors: Mapping[str, np.ndarray], specs: Specs) -> dict[str, np.ndarray]:
        """See `Stored`."""
        experts = range(specs[self.parameter].shape[0])
        return {self.parameter: np.stack([tensors[self._of(expert)].T for expert in experts])}

    def write(self, values: Mapping[str, np.ndarray], specs: Specs) -> dict[str, np.ndarray]:
        """See `Stored`."""
        return {self._of(expert): kernel.T for expert, kernel in enumerate(values[self.parameter])}

    def module(self, parameter: str) -> str:
        """See `Stored`."""
        return module_of(self.name)

    def adapted_as(self) -> AdaptedAs | None:
        """See `Stored`."""
        return None

    def outputs(self, specs: Specs) -> np.ndarray:
        """See `Stored`."""
        return side_by_side(self.holds(), specs)

    def _of(self, expert: int) -> str:
        return self.name.replace("{expert}", str(expert))


@final
@dataclasses.dataclass(frozen=True, slots=True)
class AllExperts(Stored):
    """One tensor of all experts for one or several of their parameters, the outputs of one behind those of the other.

    Kernels are [experts, out, in], or [experts, in, out] where `as_is`; biases [experts, out].
    """

    parameters: tuple[str, ...]
    name: str
    as_is: bool = False
    interleaved: bool = False
    """Whether outputs alternate between the parameters instead."""

    def holds(self) -> tuple[str, ...]:
        """See `Stored`."""
        return self.parameters

    def shapes(self, specs: Specs) -> dict[str, tuple[int, ...]]:
        """See `Stored`."""
        experts, *inputs, _ = specs[self.parameters[0]].shape
        outputs = sum(specs[name].shape[-1] for name in self.parameters)
        return {self.name: (experts, *inputs, outputs) if self.as_is or not inputs else (experts, outputs, *inputs)}

    def read(self, tensors: Mapping[str, np.ndarray], specs: Specs) -> dict[str, np.ndarray]:
        """See `Stored`."""
        whole, count = self._outputs_last(tensors[self.name], specs), len(self.parameters)
        if self.interleaved:
            parts = [whole[..., number::count] for number in range(count)]
        else:
            ends = np.cumsum([specs[name].shape[-1] for name in self.parameters])[:-1]
            parts = np.split(whole, ends.tolist(), axis=-1)
        return dict(zip(self.parameters, parts, strict=True))

    def write(self, values: Mapping[str, np.ndarray], specs: Specs) -> dict[str, np.ndarray]:
        """See `Stored`."""
        parts = [values[name] for name in self.parameters]
        if self.interleaved:
            whole = np.stack(parts, axis=-1).reshape(*parts[0].shape[:-1], -1)
        else:
            whole = np.concatenate(parts, axis=-1)
        return {self.name: self._outputs_last(whole, specs)}

    def module(self, parameter: str) -> str:
        """See `Stored`."""
        return module_of(self.name)

    def adapted_as(self) -> AdaptedAs | None:
        """See `Stored`."""
        return "parameter"

    def outputs(self, specs: Specs) -> np.ndarray:
        """See `Stored`."""
        behind = side_by_side(self.parameters, specs)
        return behind.reshape(len(self.parameters), -1).T.reshape(-1) if self.interleaved else behind

    def _outputs_last(self, tensor: np.ndarray, specs: Specs) -> np.ndarray:
        kernels = len(specs[self.parameters[0]].shape) == 3
        return tensor.swapaxes(-1, -2) if kernels and not self.as_is else tensor
