"""Which linear layers of a given model an adapter's targets mean."""

import re

from easydel_models.adapters.config import LoraConfig
from easydel_models.config import DecoderConfig
from easydel_models.errors import LoraError
from easydel_models.families import family_of
from easydel_models.parameters import parameter_specs


def adapted_kernels(config: DecoderConfig, lora: LoraConfig) -> list[str]:
    """Returns the names under `layers` of the kernels that are adapted, such as ``query``.

    Raises:
        LoraError: If a target matches no linear layer, or a layer in some places of the stack only.
    """
    modules = {name: linear_modules(config, name) for name in linear_names(config)}
    for target in lora.targets:
        if not any(re.search(target, module) for names in modules.values() for module in names):
            known = ", ".join(names[0] for names in modules.values())
            raise LoraError(f"lora target {target!r} matches no linear layer of this model; layer 0 has {known}.")
    found = []
    for name, names in modules.items():
        hits = [module for module in names if any(re.search(target, module) for target in lora.targets)]
        if hits and len(hits) < len(names):
            raise LoraError(
                f"lora targets {list(lora.targets)} match `{name}` in {len(hits)} of {len(names)} layers, first "
                f"{hits[0]}; layers are stacked, so a linear layer is adapted in all of them or in none."
            )
        found += [name] if hits else []
    return found


def linear_names(config: DecoderConfig) -> list[str]:
    """Returns the names under `layers` of all kernels."""
    kernels = (path for path, spec in parameter_specs(config).items() if spec.kind == "kernel" and spec.stacked)
    return [path.removeprefix("layers.") for path in kernels]


def linear_modules(config: DecoderConfig, name: str) -> list[str]:
    """Returns what transformers calls the linear layer ``name``, in each layer of the stack."""
    pattern = family_of(config.model_type).names[f"layers.{name}"].removesuffix(".weight")
    return [pattern.format(layer=layer) for layer in range(config.num_layers)]
