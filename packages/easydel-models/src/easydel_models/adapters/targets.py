"""Which kernels of a given model an adapter's targets mean."""

import dataclasses
import re
from collections.abc import Sequence

from easydel_models.adapters.config import LoraConfig
from easydel_models.config import DecoderConfig
from easydel_models.errors import LoraError
from easydel_models.families.wrappers import SPELLINGS
from easydel_models.files.weights import HeldKernel, held_kernels


def adaptable(config: DecoderConfig) -> list[HeldKernel]:
    """Returns all kernels of layers that an adapter can be made for, under their names in transformers 5.

    A checkpoint's tensors may still have the names of transformers 4; modules have those of today.
    """
    return held_kernels(dataclasses.replace(config, spelling=SPELLINGS[0]))


def adapted(config: DecoderConfig, lora: LoraConfig) -> list[HeldKernel]:
    """Returns those that are adapted.

    Raises:
        LoraError: If a target matches nothing, or a kernel in some places of a stack only.
    """
    kernels = adaptable(config)
    for target in lora.targets:
        if not any(_hits(kernel, [target], []) for kernel in kernels):
            raise LoraError(f"lora target {target!r} matches no linear layer of this model; {_there_are(kernels)}.")
    for name in lora.target_parameters:
        if not any(_hits(kernel, [], [name]) for kernel in kernels):
            raise LoraError(f"lora target_parameters {name!r} names no parameter of this model; {_there_are(kernels)}.")
    return [kernel for kernel in kernels if _is_adapted(kernel, lora)]


def adapted_kernels(config: DecoderConfig, lora: LoraConfig) -> list[str]:
    """Returns the dotted paths of the kernels that are adapted, such as ``layers.query``.

    Raises:
        LoraError: See `adapted`.
    """
    return [path for kernel in adapted(config, lora) for path in kernel.paths]


def _is_adapted(kernel: HeldKernel, lora: LoraConfig) -> bool:
    hits = _hits(kernel, lora.targets, lora.target_parameters)
    if hits and len(hits) < len(kernel.names):
        asked = lora.targets if kernel.in_linear_layer else lora.target_parameters
        raise LoraError(
            f"lora targets {list(asked)} match {kernel.names[0]!r} and its like in {len(hits)} of "
            f"{len(kernel.names)} layers, first {hits[0]}; layers are stacked, so a kernel is adapted in all of them "
            "or in none."
        )
    return bool(hits)


def _hits(kernel: HeldKernel, targets: Sequence[str], parameters: Sequence[str]) -> list[str]:
    if kernel.in_linear_layer:
        return [name for name in kernel.names if any(re.search(target, name) for target in targets)]
    return [name for name in kernel.names if any(f".{name}".endswith(f".{end}") for end in parameters)]


def _there_are(kernels: list[HeldKernel]) -> str:
    layers = ", ".join(kernel.names[0] for kernel in kernels if kernel.in_linear_layer)
    parameters = ", ".join(kernel.names[0] for kernel in kernels if not kernel.in_linear_layer)
    return f"layer 0 has {layers}" + (f", and for target_parameters {parameters}" if parameters else "")
