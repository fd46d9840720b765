"""A model's weights as decoding reads them: one small tree for each layer, adapters merged, in the compute dtype.

Training keeps the layers stacked and scans over them. A scan copies each layer's kernels out of the stack before it
multiplies, which a batch of long rows does not notice; a single token does: it reads every weight once and computes
almost nothing, so on CPU the copies make a step two to three times slower. Decoding therefore holds its own, unstacked
copy, made once for each update of the weights.
"""

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from easydel_models.adapters.config import LoraConfig
from easydel_models.adapters.merged import merged_params
from easydel_models.config import DecoderConfig
from easydel_models.layers.linear import blocked_kernel
from easydel_models.layers.parameter import ParameterKind
from easydel_models.layers.stacks import stacks
from easydel_models.parameters import Params, layer_stacks, split_params

if TYPE_CHECKING:
    from easydel_models.heads import CausalLM


class DecodeWeights(NamedTuple):
    """What one step of decoding multiplies with."""

    layers: tuple[dict[str, Array], ...]
    """By layer, then by name as in `easydel_models.parameters`; kernels are cut up by `blocked_kernel`."""
    others: dict[str, Array]
    """Parameters of no layer, by name: the embedding, the norm at the end."""
    head: Float[Array, "V D"]
    """Turns hidden states into logits, ``hidden @ W.T``; the same array as the embedding where they are tied."""

    def head_blocks(self) -> Float[Array, "blocks part D"]:
        """The head, cut up like the kernels."""
        return blocked_kernel(self.head, _blocks(self.head.shape[0]))


def decode_weights(model: "CausalLM") -> DecodeWeights:
    """Copies the layers of a model; embedding and head are its own arrays where they have the compute dtype."""
    params = split_params(model)[1]
    dtype = np.dtype(model.dtype)
    # Cutting up would tear a kernel that is spread over devices.
    whole = len(params["embedding"].sharding.device_set) > 1
    others = {name: array for name, array in params.items() if name not in ("layers", "head")}
    others = {name: array if array.ndim < 2 else array.astype(dtype) for name, array in others.items()}
    return DecodeWeights(
        layers=_unstacked(params["layers"], model.config, model.lora, dtype, whole),
        others=others,
        head=params["head"].astype(dtype) if "head" in params else others["embedding"],
    )


@functools.partial(jax.jit, static_argnames=("config", "lora", "dtype", "whole"))
def _unstacked(
    layers: Params, config: DecoderConfig, lora: LoraConfig | None, dtype: np.dtype, whole: bool
) -> tuple[dict[str, Any], ...]:
    layers = layers if lora is None else merged_params({"layers": layers}, lora)["layers"]
    found: dict[int, dict[str, Array]] = {}
    for stack, own in zip(stacks(config.all_layers), layer_stacks(config, layers), strict=True):
        specs = stack.config.parameters(config.dim, config.norm)
        for index, number in enumerate(stack.numbers):
            found[number] = {name: _one(array[index], specs[name].kind, dtype, whole) for name, array in own.items()}
    return tuple(found[number] for number in range(config.num_layers))


def _one(array: Array, kind: ParameterKind, dtype: np.dtype, whole: bool) -> Array:
    if kind != "kernel":
        return array if array.ndim < 2 else array.astype(dtype)
    table = array.T.astype(dtype)
    return blocked_kernel(table, 1 if whole else _blocks(table.shape[0]))


def _blocks(outputs: int) -> int:
    """Parts of at least `_SMALLEST` outputs, at most `_MOST`; accelerators multiply whole matrices best."""
    if jax.default_backend() != "cpu":
        return 1
    return max(n for n in range(1, _MOST + 1) if outputs % n == 0 and (n == 1 or outputs // n >= _SMALLEST))


_SMALLEST, _MOST = 128, 16
