"""Prompts read at once, each distinct one a single time, however many completions it will have.

The last token of a prompt is left to the first step of decoding, which reads it like any token after it. So prefilling
needs neither the head nor a choice of token, and a prompt of one token needs no prefilling at all.
"""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Int

from easydel_models.bfloat16_bits import seen_as_bits
from easydel_models.decoder import LOOKED_UP
from easydel_models.generation.shapes import pieces, power_of_two
from easydel_models.generation.slot_cache import newest_kept, windows_of
from easydel_models.layers.tokens import Memory
from easydel_models.parameters import Params, join_params, split_params

if TYPE_CHECKING:
    from easydel_models.heads import CausalLM

SHORTEST = 32
"""Prompts are padded to at least so many tokens."""
_MOST_TOKENS = 8192
"""Read at once, padding included, unless a single prompt is longer: bounds the memory of a prefill."""


class Prefilled(NamedTuple):
    """What each layer keeps of several prompts."""

    memories: tuple[Memory, ...]
    number: int
    """Which of them is meant."""


@dataclasses.dataclass(frozen=True, slots=True)
class Prefiller:
    """Reads prompts with one model."""

    structure: nnx.GraphDef
    params: Params
    """Of layers and tables, bfloat16 numbers as `seen_as_bits`: taking a part of them would widen all of them."""

    @classmethod
    def of_model(cls, model: "CausalLM") -> "Prefiller":
        """Returns the reader of prompts with this model's weights."""
        structure, params = split_params(model)
        parts_taken = {name: params[name] for name in ("layers", *LOOKED_UP) if name in params}
        return cls(structure, params | seen_as_bits(parts_taken))

    def __call__(self, prompts: Sequence[np.ndarray]) -> list[Prefilled]:
        """Reads all but the last token of each prompt, which must have two or more."""
        results: dict[int, Prefilled] = {}
        for chunk in _chunks(prompts):
            tokens, mask = (jnp.array(array) for array in _right_padded([prompts[i] for i in chunk]))
            memories = _prefill(self.structure, self.params, tokens, mask)
            results |= {number: Prefilled(memories, index) for index, number in enumerate(chunk)}
        return [results[number] for number in range(len(prompts))]


def prefilled_width(prompt: np.ndarray) -> int:
    """Returns slots that the prompt takes up when it is copied into a cache, filling included."""
    return max(power_of_two(len(prompt) - 1), SHORTEST) if len(prompt) > 1 else 0


@functools.partial(jax.jit, static_argnames="structure")
def _prefill(
    structure: nnx.GraphDef,
    params: Params,
    tokens: Int[np.ndarray | Array, "P T"],
    mask: Int[np.ndarray | Array, "P T"],
) -> tuple[Memory, ...]:
    model, segments = join_params(structure, params), jnp.asarray(mask)
    memories = model.memories(jnp.asarray(tokens), segment_ids=segments)
    return newest_kept(memories, windows_of(model.config), segments.sum(axis=1, dtype=jnp.int32))


def _chunks(prompts: Sequence[np.ndarray]) -> list[list[int]]:
    """Returns numbers of prompts that are read together: those of one width, as many as memory allows."""
    chunks: list[list[int]] = []
    by_width: dict[int, list[int]] = {}
    for number, prompt in enumerate(prompts):
        by_width.setdefault(prefilled_width(prompt), []).append(number)
    for width, numbers in by_width.items():
        left = iter(numbers)
        sizes = pieces(len(numbers), most=max(_MOST_TOKENS // width, 1))
        chunks.extend(list(itertools.islice(left, size)) for size in sizes)
    return chunks


def _right_padded(prompts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    shape = (len(prompts), prefilled_width(prompts[0]))
    tokens, mask = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt) - 1] = prompt[:-1]
        mask[row, : len(prompt) - 1] = 1
    return tokens, mask
