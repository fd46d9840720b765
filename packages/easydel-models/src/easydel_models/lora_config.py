"""What a low-rank adapter is asked to be, and which linear layers that means in a given model."""

import dataclasses
import math
import re
from collections.abc import Sequence

from easydel_models.config import DecoderConfig
from easydel_models.errors import LoraError
from easydel_models.families import family_of
from easydel_models.parameters import parameter_specs


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoraConfig:
    """Which linear layers are adapted, and how."""

    rank: int = 16
    """Columns of A and rows of B."""
    alpha: float = 32.0
    """The adapter's result is multiplied by alpha / rank."""
    dropout: float = 0.0
    """Share of an adapter's inputs set to 0 in training, in [0, 1). Above 0, a step's loss depends on how it is split
    into micro-batches, since each draws its own."""
    rslora: bool = False
    """Multiply by alpha / sqrt(rank) instead, so that large ranks learn as fast as small ones."""
    targets: Sequence[str] = (".",)
    """Regular expressions; a linear layer is adapted if its name in Hugging Face's spelling, such as
    `model.layers.0.self_attn.q_proj`, contains a match. `.` matches all of them; embedding and head are never
    adapted."""

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            LoraError: Naming the field that is out of range.
        """
        if isinstance(self.rank, bool) or not isinstance(self.rank, int) or self.rank < 1:
            raise LoraError(f"lora `rank` is {self.rank!r}; expected a whole number of at least 1, for example 16.")
        if not 0 < self.alpha < math.inf:
            raise LoraError(f"lora `alpha` is {self.alpha!r}; expected a number larger than 0, for example 2 * rank.")
        if not 0 <= self.dropout < 1:
            raise LoraError(f"lora `dropout` is {self.dropout!r}; expected a share in [0, 1), for example 0.05.")
        targets = self.targets
        if isinstance(targets, str) or not targets or not all(isinstance(target, str) for target in targets):
            raise LoraError(
                f"lora `targets` is {targets!r}; expected a list of patterns, such as ['q_proj', 'v_proj']."
            )
        for target in targets:
            try:
                re.compile(target)
            except re.error as error:
                raise LoraError(f"lora target {target!r} is no regular expression: {error}.") from None
        object.__setattr__(self, "targets", tuple(targets))

    @property
    def scale(self) -> float:
        """Factor on the adapter's result."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


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
