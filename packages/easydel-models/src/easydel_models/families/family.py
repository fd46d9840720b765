"""What a model family is made of, and the names by which its parts are found."""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from easydel_models.families.keys import Keys
from easydel_models.families.stored import Stored


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """One model family: how its config.json is read, and how its tensors are stored."""

    model_type: str
    """The ``model_type`` of config.json."""
    class_prefix: str
    """What the family's classes in transformers begin with, as in ``LlamaForCausalLM``."""
    read: Callable[[Keys], dict[str, Any]]
    """From the keys of config.json to arguments of `easydel_models.config.DecoderConfig`: what the layers are, the
    norm, and what this family alone has. Vocabulary, width, tokens and labels are read for all families alike."""
    tensors: tuple[Stored, ...]
    """How parameters lie in files; of several for one parameter the first whose tensors are all there is read, and the
    first of all is written."""
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=lambda: MappingProxyType({}))
    """Values transformers assumes for keys that config.json leaves out, where these matter to the numbers."""
    aliases: Mapping[str, str] = dataclasses.field(default_factory=lambda: MappingProxyType({}))
    """Name of a key in most families -> what this family calls it."""
    head_class: str = "ForCausalLM"
    """What the class of the language model ends in."""
    spellings: tuple[tuple[str, str], ...] = ()
    """Other beginnings of tensor names that some files have: (ours, theirs)."""
    redundant: tuple[str, ...] = ()
    """Patterns of tensor names that files keep although they follow from the configuration."""
