"""A model's weights as decoding reads them: one small tree for each layer, adapters merged, in the compute dtype.

Training keeps the layers stacked and scans over them. A scan copies each layer's kernels out of the stack before it
multiplies, which a batch of long rows does not notice; a single token does: it reads every weight once and computes
almost nothing, so on CPU the copies make a step two to three times slower. Decoding therefore takes the layers apart.

On a CPU a layer can lie where it is, in the stack: float32 kernels are then read in place and nothing is copied. A few
rows, more than two, multiply faster by kernels that were cut up first (`blocked_kernel`); for those, and wherever
weights must be cast, merged or moved, there is a copy, made once for each update of the weights.
"""

import functools
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
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

_FASTER_CUT_UP = range(3, 48)
"""Rows for which XLA on CPU multiplies so much faster by kernels that are cut up, 1.4 to 2.4 times, that they are."""


class DecodeWeights(NamedTuple):
    """What one step of decoding multiplies with."""

    layers: tuple[dict[str, Array], ...]
    """By layer, then by name as in `easydel_models.parameters`; copied kernels are cut up by `blocked_kernel`."""
    others: dict[str, Array]
    """Parameters of no layer, by name: the embedding, the norm at the end."""
    head: Float[Array, "V D"]
    """Turns hidden states into logits, ``hidden @ W.T``; the same array as the embedding where they are tied."""

    def head_blocks(self) -> Float[Array, "blocks part D"]:
        """The head, cut up like the kernels."""
        return blocked_kernel(self.head, _blocks(self.head.shape[0]))


def decode_weights(model: "CausalLM", rows: int) -> DecodeWeights:
    """Returns the weights of a model for decoding so many rows together.

    Where they can be read in place they are; they then keep the model's arrays from being donated. Otherwise they are
    copied, and the copy is kept for as long as the model has the same parameters, or until `forget_copy`.
    """
    params = split_params(model)[1]
    if rows not in _FASTER_CUT_UP and _read_in_place(model, params):
        return _in_place(model.config, params)
    return _copied(model, params)


def forget_copy(model: Any) -> None:
    """Gives back the memory of what `decode_weights` copied of a model, if it did."""
    _COPIES.pop(model, None)


class _Copy(NamedTuple):
    of: tuple["weakref.ref[Array]", ...]
    """The parameters that it was made from."""
    dtype: np.dtype
    weights: DecodeWeights

    def is_of(self, arrays: Sequence[Array], dtype: np.dtype) -> bool:
        return (
            dtype == self.dtype
            and len(arrays) == len(self.of)
            and all(ref() is array for ref, array in zip(self.of, arrays, strict=True))
        )


_COPIES: "weakref.WeakKeyDictionary[Any, _Copy]" = weakref.WeakKeyDictionary()


def _copied(model: "CausalLM", params: Params) -> DecodeWeights:
    arrays, dtype = jax.tree.leaves(params), np.dtype(model.compute_dtype)
    if (kept := _COPIES.get(model)) is not None and kept.is_of(arrays, dtype):
        return kept.weights
    del kept
    forget_copy(model)  # the old one goes before the new one comes
    weights = _copy(model, params, dtype)
    _COPIES[model] = _Copy(tuple(weakref.ref(array) for array in arrays), dtype, weights)
    return weights


def _copy(model: "CausalLM", params: Params, dtype: np.dtype) -> DecodeWeights:
    # Cutting up would tear a kernel that is spread over devices.
    whole = len(params["embedding"].sharding.device_set) > 1
    others = {name: array if array.ndim < 2 else array.astype(dtype) for name, array in _others(params).items()}
    return DecodeWeights(
        layers=_unstacked(params["layers"], model.config, model.lora, dtype, whole),
        others=others,
        head=params["head"].astype(dtype) if "head" in params else others["embedding"],
    )


def _others(params: Params) -> dict[str, Array]:
    return {name: array for name, array in params.items() if name not in ("layers", "head")}


def _read_in_place(model: "CausalLM", params: Params) -> bool:
    """Whether every number that a product reads is there already, in memory that NumPy sees, as it is needed."""
    return (
        model.lora is None
        and model.compute_dtype == jnp.float32
        and all(array.dtype == jnp.float32 or array.ndim < 2 for array in jax.tree.leaves(params))
        and {device.platform for device in params["embedding"].sharding.device_set} == {"cpu"}
        and len(params["embedding"].sharding.device_set) == 1
    )


def _in_place(config: DecoderConfig, params: Params) -> DecodeWeights:
    found: dict[int, dict[str, Array]] = {}
    for stack, own in zip(stacks(config.all_layers), layer_stacks(config, params["layers"]), strict=True):
        for name, array in own.items():
            # A JAX array over a part of another's memory: NumPy shows it without a copy, and JAX takes it without one
            # where it is aligned, as all but tiny parameters are.
            (device,), on_host = array.sharding.device_set, np.asarray(array)
            for place, number in enumerate(stack.numbers):
                found.setdefault(number, {})[name] = jax.device_put(on_host[place], device)
    layers = tuple(found[number] for number in range(config.num_layers))
    return DecodeWeights(layers, _others(params), params["head"] if "head" in params else params["embedding"])


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
