"""What a trainer needs of whoever writes its completions: token ids in, token ids and log-probabilities out.

`easydel_models.generation.model_engine.ModelEngine` generates in this process on the model's own arrays. Another engine
fits in if it has these two methods.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from easydel_models.generation.options import GenerateResult, GenerationOptions

if TYPE_CHECKING:
    from easydel_models.heads import CausalLM


class GenerationEngine(Protocol):
    """Continues prompts with the weights it was last given."""

    def generate(self, prompts: Sequence[Sequence[int]], options: GenerationOptions) -> GenerateResult:
        """Returns `options.num_return_sequences` completions of each prompt, in the order of the prompts."""
        ...

    def update(self, model: "CausalLM") -> None:
        """Takes over a model's weights: what is generated from now on comes from them."""
        ...
