"""Which linear layers of a given model an adapter's targets mean."""

import dataclasses
import re

from easydel_models.adapters.config import LoraConfig
from easydel_models.config import DecoderConfig
from easydel_models.errors import LoraError
from easydel_models.families.wrappers import SPELLINGS
from easydel_models.files.weights import module_names
from easydel_models.parameters import parameter_specs


def adapted_kernels(config: DecoderConfig, lora: LoraConfig) -> list[str]:
    """Returns the dotted paths of the kernels that are adapted, such as ``layers.query``.

    Raises:
        LoraError: If a target matches no linear layer, or a layer in some layers of a stack only.
    """
    modules = {path: linear_modules(config, path) for path in linear_paths(config)}
    for target in lora.targets:
        if not any(re.search(target, module) for names in modules.values() for module in names):
            known = ", ".join(dict.fromkeys(names[0] for names in modules.values()))
            raise LoraError(f"lora target {target!r} matches no linear layer of this model; layer 0 has {known}.")
    found = []
    for path, names in modules.items():
        hits = [module for module in names if any(re.search(target, module) for target in lora.targets)]
        if hits and len(hits) < len(names):
            name = path.rpartition(".")[2]
            raise LoraError(
                f"lora targets {list(lora.targets)} match `{name}` in {len(hits)} of {len(names)} layers, first "
                f"{hits[0]}; layers are stacked, so a linear layer is adapted in all of them or in none."
            )
        found += [path] if hits else []
    return found


def linear_paths(config: DecoderConfig) -> list[str]:
    """Returns the dotted paths of all kernels of layers."""
    return [path for path, spec in parameter_specs(config).items() if spec.kind == "kernel" and spec.stacked]


def linear_modules(config: DecoderConfig, path: str) -> list[str]:
    """Returns what transformers calls the linear layer at ``path``, in each layer of its stack.

    A checkpoint's tensors may still have the names of transformers 4; modules have those of today.
    """
    return module_names(dataclasses.replace(config, spelling=SPELLINGS[0]), path)
