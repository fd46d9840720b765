"""A model's weights as decoding reads them: one small tree for each layer, adapters merged, in the compute dtype.

Training keeps the layers stacked and scans over them. A scan copies each layer's kernels out of the stack before it
multiplies, which a batch of long rows does not notice; a single token does: it reads every weight once and computes
almost nothing, so on CPU the copies make a step two to three times slower. Decoding therefore takes the layers apart.

On a CPU a layer can lie where it is, in the stack: kernels that are in the compute dtype are then read in place and
nothing is copied. Where weights must be cast, merged or moved there is a copy, made once for each update of them. So
there is on CPUs without AVX-512, where a few float32 rows, more than two, multiply faster by kernels that were cut up
first (`blocked_kernel`).
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
from easydel_models.bfloat16_bits import seen_as_bits
from easydel_models.config import DecoderConfig
from easydel_models.cpu_bfloat16 import cpu_flags
from easydel_models.decoder import LOOKED_UP
from easydel_models.layers.linear import blocked_kernel, times_blocked
from easydel_models.layers.parameter import ParameterKind
from easydel_models.layers.stacks import stacks
from easydel_models.parameters import Params, layer_stacks, split_params
from easydel_models.products import wide_product

if TYPE_CHECKING:
    from easydel_models.heads import CausalLM

_FASTER_CUT_UP = range(3, 48)
"""Rows for which XLA, on a CPU without AVX-512, multiplies 1.4 to 2.4 times as fast by kernels that are cut up."""


class DecodeWeights(NamedTuple):
    """What one step of decoding multiplies with."""

    layers: tuple[dict[str, Array], ...]
    """By layer, then by name as in `easydel_models.parameters`; kernels may be cut up by `blocked_kernel`."""
    others: dict[str, Array]
    """Parameters of no layer, by name: the embedding, as numbers or as `seen_as_bits`; the norm at the end."""
    head: Float[Array, "V D"]
    """Turns hidden states into logits, ``hidden @ W.T``; the same array as the embedding where they are tied."""

    def logits(self, hidden: Float[Array, "B D"]) -> Float[Array, "B V"]:
        """Returns ``hidden @ head.T`` in float32."""
        blocks = _blocks(self.head)
        if blocks == 1:
            return wide_product(hidden, self.head, transposed_right=True)
        return times_blocked(hidden, blocked_kernel(self.head, blocks), result=jnp.float32)


def decode_weights(model: "CausalLM", rows: int) -> DecodeWeights:
    """Returns the weights of a model for decoding so many rows together.

    Where they can be read in place they are; they then keep the model's arrays from being donated. Otherwise they are
    copied, and the copy is kept for as long as the model has the same parameters, or until `forget_copy`.
    """
    params = split_params(model)[1]
    cut_up = _faster_cut_up(model, params, rows)
    if not cut_up and _read_in_place(model, params):
        return _in_place(model.config, params)
    return _copied(model, params, cut_up)


def forget_copy(model: Any) -> None:
    """Gives back the memory of what `decode_weights` copied of a model, if it did."""
    _COPIES.pop(model, None)


class _Copy(NamedTuple):
    of: tuple["weakref.ref[Array]", ...]
    """The parameters that it was made from."""
    dtype: np.dtype
    cut_up: bool
    weights: DecodeWeights

    def is_of(self, arrays: Sequence[Array], dtype: np.dtype, cut_up: bool) -> bool:
        return (
            dtype == self.dtype
            and cut_up == self.cut_up
            and len(arrays) == len(self.of)
            and all(ref() is array for ref, array in zip(self.of, arrays, strict=True))
        )


_COPIES: "weakref.WeakKeyDictionary[Any, _Copy]" = weakref.WeakKeyDictionary()


def _faster_cut_up(model: "CausalLM", params: Params, rows: int) -> bool:
    return rows in _FASTER_CUT_UP and model.compute_dtype == jnp.float32 and _on_one_cpu(params) and not _has_avx512()


@functools.cache
def _has_avx512() -> bool:
    return "avx512f" in cpu_flags()


def _copied(model: "CausalLM", params: Params, cut_up: bool) -> DecodeWeights:
    arrays, dtype = jax.tree.leaves(params), np.dtype(model.compute_dtype)
    if (kept := _COPIES.get(model)) is not None and kept.is_of(arrays, dtype, cut_up):
        return kept.weights
    del kept
    forget_copy(model)  # the old one goes before the new one comes
    weights = _copy(model, params, dtype, cut_up)
    _COPIES[model] = _Copy(tuple(weakref.ref(array) for array in arrays), dtype, cut_up, weights)
    return weights


def _copy(model: "CausalLM", params: Params, dtype: np.dtype, cut_up: bool) -> DecodeWeights:
    others = {name: array if array.ndim < 2 else array.astype(dtype) for name, array in _others(params).items()}
    return DecodeWeights(
        layers=_unstacked(params["layers"], model.config, model.lora, dtype, cut_up),
        others=others,
        head=params["head"].astype(dtype) if "head" in params else others["embedding"],
    )


def _others(params: Params) -> dict[str, Array]:
    return {name: array for name, array in params.items() if name not in ("layers", "head")}


def _read_in_place(model: "CausalLM", params: Params) -> bool:
    """Returns whether every number that a product reads is there already, in memory that NumPy sees, as it is
    needed.
    """
    return (
        model.lora is None
        and all(array.dtype == model.compute_dtype or array.ndim < 2 for array in jax.tree.leaves(params))
        and _on_one_cpu(params)
    )


def _on_one_cpu(params: Params) -> bool:
    return [device.platform for device in params["embedding"].sharding.device_set] == ["cpu"]


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
    others = _others(params)
    tables = seen_as_bits({name: others[name] for name in LOOKED_UP if name in others})
    return DecodeWeights(layers, others | tables, params["head"] if "head" in params else params["embedding"])


@functools.partial(jax.jit, static_argnames=("config", "lora", "dtype", "cut_up"))
def _unstacked(
    layers: Params, config: DecoderConfig, lora: LoraConfig | None, dtype: np.dtype, cut_up: bool
) -> tuple[dict[str, Any], ...]:
    layers = layers if lora is None else merged_params({"layers": layers}, lora)["layers"]
    found: dict[int, dict[str, Array]] = {}
    for stack, own in zip(stacks(config.all_layers), layer_stacks(config, layers), strict=True):
        specs = stack.config.parameters(config.dim, config.norm)
        for index, number in enumerate(stack.numbers):
            found[number] = {name: _one(array[index], specs[name].kind, dtype, cut_up) for name, array in own.items()}
    return tuple(found[number] for number in range(config.num_layers))


def _one(array: Array, kind: ParameterKind, dtype: np.dtype, cut_up: bool) -> Array:
    array = array if array.ndim < 2 else array.astype(dtype)
    return blocked_kernel(array.T, _blocks(array.T)) if cut_up and kind == "kernel" else array


def _blocks(table: Float[Array, "out in"]) -> int:
    """Returns how many parts of at least `_SMALLEST` outputs: at most `_MOST` for float32 on a CPU, otherwise 1."""
    outputs = table.shape[0]
    if jax.default_backend() != "cpu" or table.dtype != jnp.float32:
        return 1
    return max(n for n in range(1, _MOST + 1) if outputs % n == 0 and (n == 1 or outputs // n >= _SMALLEST))


_SMALLEST, _MOST = 128, 16
