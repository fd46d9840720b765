"""Tensors in MXFP4, as gpt-oss publishes its experts, made bfloat16 while they are read.

A number is four bits: a sign, two bits of exponent, one of mantissa. Thirty-two neighbours share a power of two. Files
have two tensors of bytes, ``X_blocks`` [experts, outputs, groups, 16], of whose bytes the lower half comes first, and
``X_scales`` [experts, outputs, groups], the exponents plus 127; unquantized it is ``X`` [experts, inputs, outputs].
Every value is a bfloat16, so that nothing is rounded.

References: Open Compute Project, Microscaling Formats (MX) Specification v1.0, 2023, sections 5.3.3 and 5.4.1.
"""

import dataclasses
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import ml_dtypes
import numpy as np

from easydel_models.errors import WeightsError

_BLOCKS, _SCALES = "_blocks", "_scales"
HALVES = (_BLOCKS, _SCALES)
"""What the names of the two tensors end in."""
_PER_BYTE, _BYTES, _BIAS, _NO_NUMBER = 2, 16, 127, 255
_VALUES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


@runtime_checkable
class ByteTensor(Protocol):
    """A tensor in a file, as `easydel_models.files.weights.LazyTensor`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        ...

    @property
    def origin(self) -> str:
        """The file it lies in."""
        ...

    def load(self) -> np.ndarray:
        """Reads it."""
        ...


def dequantized(tensors: Mapping[str, ByteTensor]) -> "dict[str, ByteTensor | Dequantized]":
    """Returns the tensors with those in MXFP4 under the names and of the shapes that they have otherwise.

    Raises:
        WeightsError: If two halves do not belong together.
    """
    plain = [name.removesuffix(_BLOCKS) for name in tensors if name.endswith(_BLOCKS)]
    whole = {
        name: Dequantized(name, tensors[name + _BLOCKS], tensors[name + _SCALES])
        for name in plain
        if name + _SCALES in tensors
    }
    halves = {name + half for name in whole for half in HALVES}
    return {name: tensor for name, tensor in tensors.items() if name not in halves} | whole


@dataclasses.dataclass(frozen=True, slots=True)
class Dequantized:
    """One tensor in MXFP4, not read yet."""

    name: str
    blocks: ByteTensor
    scales: ByteTensor

    def __post_init__(self) -> None:
        """Compares the shapes of both halves.

        Raises:
            WeightsError: If they do not belong together.
        """
        blocks, scales = tuple(self.blocks.shape), tuple(self.scales.shape)
        if len(blocks) != 4 or blocks[3] != _BYTES or blocks[:3] != scales:
            raise WeightsError(
                f"{self.origin} holds {self.name} in MXFP4 as blocks of shape {blocks} and scales of shape {scales}; "
                f"expected (experts, outputs, groups, {_BYTES}) and (experts, outputs, groups)."
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """[experts, inputs, outputs]."""
        experts, outputs, groups, width = self.blocks.shape
        return experts, groups * width * _PER_BYTE, outputs

    @property
    def origin(self) -> str:
        """The file it lies in."""
        return self.blocks.origin

    def load(self) -> np.ndarray:
        """Reads it as bfloat16, one expert after the other.

        Raises:
            WeightsError: If a scale stands for no number.
        """
        blocks, scales = self.blocks.load(), self.scales.load()
        if (scales == _NO_NUMBER).any():
            raise WeightsError(f"{self.origin}: {self.name} has a scale that stands for no number; fetch it again.")
        values = np.empty(self.shape, ml_dtypes.bfloat16)
        for expert, own in enumerate(blocks):
            pairs = np.stack((_VALUES[own & 0x0F], _VALUES[own >> 4]), axis=-1).reshape(*own.shape[:2], -1)
            exponents = scales[expert].astype(np.int32)[..., None] - _BIAS
            values[expert] = np.ldexp(pairs, exponents).reshape(own.shape[0], -1).T
        return values
