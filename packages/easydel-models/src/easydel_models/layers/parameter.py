"""What is known of a parameter before it exists."""

import dataclasses
from typing import Literal

ParameterKind = Literal["table", "kernel", "kernels", "norm", "bias", "other"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ParameterSpec:
    """One parameter: its shape, what kind it is, how it begins."""

    shape: tuple[int, ...]
    """Of one layer's, where it is stacked."""
    kind: ParameterKind
    """``kernel``: [in, out], stored transposed in files, and what adapters adapt; ``kernels``: one such
    matrix for each expert; ``table``: [rows, dim]; ``norm`` and ``bias``: one axis; ``other``: whatever a kind of layer
    makes of it. All but kernels are stored as they are."""
    init: Literal["normal", "ones", "zeros"] = "normal"
    """Fresh values; ``normal`` has the standard deviation `DecoderConfig.initializer_range`."""
    buffer: bool = False
    """Whether it is part of the model and yet never trained; whoever uses it stops its gradient."""
    heads: int = 1
    """Equal parts that the outputs consist of, where a file has those of several kernels side by side, part by part."""
    layers: int | None = None
    """Layers whose parameters are stacked along a leading axis; None = it is none of a layer."""

    @property
    def stacked(self) -> bool:
        """Whether there is one for each of several layers."""
        return self.layers is not None

    @property
    def full_shape(self) -> tuple[int, ...]:
        """Shape of the array, the layers' axis included."""
        return self.shape if self.layers is None else (self.layers, *self.shape)


def linear_parameters(name: str, rows: int, columns: int, *, bias: bool = False) -> dict[str, ParameterSpec]:
    """Returns the parameters of the linear layer ``name`` from ``rows`` inputs to ``columns`` outputs."""
    kernel = {name: ParameterSpec(shape=(rows, columns), kind="kernel")}
    return kernel | ({f"{name}_bias": ParameterSpec(shape=(columns,), kind="bias", init="zeros")} if bias else {})
