"""The families that are known, by the ``model_type`` of their config.json."""

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from easydel_models.errors import ConfigError
from easydel_models.families.family import Family
from easydel_models.families.llama import LLAMA, MISTRAL
from easydel_models.shown import quoted

FAMILIES: Mapping[str, Family] = MappingProxyType({family.model_type: family for family in (LLAMA, MISTRAL)})


def family_of(model_type: str | None) -> Family:
    """Returns the family that config.json calls ``model_type``.

    Raises:
        ConfigError: If no family of that name is known.
    """
    if model_type is not None and model_type in FAMILIES:
        return FAMILIES[model_type]
    near = difflib.get_close_matches(str(model_type), FAMILIES, n=3, cutoff=0.5)
    hint = f"; nearest by name: {', '.join(near)}" if near else ""
    raise ConfigError(
        f"`model_type` is {quoted(model_type)}{hint}; the families known are {', '.join(sorted(FAMILIES))}. "
        "docs/how-to/add-a-model-family.md says how one is added."
    )
