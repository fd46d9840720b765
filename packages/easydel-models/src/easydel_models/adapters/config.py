"""What low-rank adapters are asked to be. Loads no JAX, so that a config can hold one."""

import dataclasses
import math
import re
from collections.abc import Sequence

from easydel_models.errors import LoraError


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoraConfig:
    """Which linear layers are adapted, and how."""

    rank: int = 16
    """Columns of A and rows of B."""
    alpha: float = 32.0
    """The adapter's result is multiplied by alpha / rank."""
    dropout: float = 0.0
    """Share of an adapter's inputs set to 0 in training, in [0, 1). Above 0, a step's loss depends on how it is split
    into micro-batches, since each draws its own. Adapters of `target_parameters` have none, as in PEFT."""
    rslora: bool = False
    """Multiply by alpha / sqrt(rank) instead, so that large ranks learn as fast as small ones."""
    targets: Sequence[str] = (".",)
    """Regular expressions; a linear layer is adapted if its name in Hugging Face's spelling, such as
    `model.layers.0.self_attn.q_proj`, contains a match. `.` matches all of them; embedding and head are never
    adapted."""
    target_parameters: Sequence[str] = ()
    """Ends of names; experts and routers, which transformers holds in no linear layer, are adapted if theirs has one of
    them: ``["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]`` are the experts of most families. The field of that
    name in PEFT."""

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            LoraError: Naming the field that is out of range.
        """
        if isinstance(self.rank, bool) or not isinstance(self.rank, int) or self.rank < 1:
            raise LoraError(f"lora `rank` is {self.rank!r}; expected a whole number of at least 1, for example 16.")
        if not 0 < self.alpha < math.inf:
            raise LoraError(f"lora `alpha` is {self.alpha!r}; expected a number larger than 0, for example 2 * rank.")
        if not 0 <= self.dropout < 1:
            raise LoraError(f"lora `dropout` is {self.dropout!r}; expected a share in [0, 1), for example 0.05.")
        targets, parameters = self.targets, self.target_parameters
        if not _is_list_of_text(targets) or not (targets or parameters):
            raise LoraError(
                f"lora `targets` is {targets!r}; expected a list of patterns, such as ['q_proj', 'v_proj']."
            )
        if not _is_list_of_text(parameters):
            raise LoraError(
                f"lora `target_parameters` is {parameters!r}; expected a list of names, such as "
                "['mlp.experts.gate_up_proj', 'mlp.experts.down_proj']."
            )
        if parameters and self.dropout:
            raise LoraError(
                f"lora `dropout` is {self.dropout!r} beside `target_parameters`, whose adapters have none; expected 0."
            )
        for target in targets:
            try:
                re.compile(target)
            except re.error as error:
                raise LoraError(f"lora target {target!r} is no regular expression: {error}.") from None
        object.__setattr__(self, "targets", tuple(targets))
        object.__setattr__(self, "target_parameters", tuple(parameters))

    @property
    def scale(self) -> float:
        """Factor on the adapter's result."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


def _is_list_of_text(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(one, str) for one in value)
