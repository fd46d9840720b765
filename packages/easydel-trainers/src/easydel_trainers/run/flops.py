"""Arithmetic of a training step, counted from the model's shapes, and the share of the hardware's peak it is.

Model FLOPs: what forward and backward pass need, whatever the program does besides (recomputation under remat and
the frozen reference of preference training are not counted). A token costs 6 per parameter it is multiplied with,
and a pair of tokens that attention compares 12 per layer and head dimension, halved because it is causal.

>>> step_flops(tokens=10, attended=100, matmul_parameters=1000, attention_dims=16)
69600
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
from easydel_models.config import DecoderConfig
from easydel_models.layers.linear import LORA_A, LORA_B, is_adapter
from easydel_models.parameters import flattened, parameter_specs, split_params

#: Dense bfloat16 peak of one device in FLOP/s by a part of its kind's name, from the makers' data sheets (for
#: NVIDIA without the 2:4 sparsity that doubles the advertised figure).
_PEAKS = {
    "v4": 275e12,
    "v5 lite": 197e12,
    "v5e": 197e12,
    "v5p": 459e12,
    "v6": 918e12,
    "a100": 312e12,
    "h100": 989e12,
    "h200": 989e12,
}


def step_flops(*, tokens: int, attended: int, matmul_parameters: int, attention_dims: int) -> int:
    """Model FLOPs of forward and backward pass.

    Args:
        tokens: real ones.
        attended: sum over rows of the square of their tokens.
        matmul_parameters: parameters that a token is multiplied with: kernels and head, not the embedding's look-up.
        attention_dims: layers times query heads times head dimension.
    """
    return 6 * matmul_parameters * tokens + 6 * attention_dims * attended


def matmul_parameters(model: Any) -> int:
    """Scalars in the kernels, adapters and output head of a decoder that a token is multiplied with; of frozen ones two
    thirds, and of those of experts the share of the experts that a token goes to.

    Of the six operations per token that a trained parameter costs, two are its own gradient.
    """
    params = split_params(model)[1]
    config = model.config
    rows = config.vocab_size if config.num_labels is None else config.num_labels
    kernels = _kernels(config, flattened(params["layers"], "layers."))
    frozen = 0
    if model.lora is not None:
        frozen = sum(size for path, size in kernels.items() if not is_adapter(path))
        frozen += rows * config.dim if config.num_labels is None else 0
    return sum(kernels.values()) + rows * config.dim - frozen // 3


def _kernels(config: DecoderConfig, layers: Mapping[str, jax.Array]) -> dict[str, int]:
    specs = parameter_specs(config)
    # The experts of all layers are as many, and a token goes to as many of them, as in every family.
    routed = next((layer.feed_forward for layer in config.all_layers if layer.feed_forward.num_experts()), None)
    sizes = {}
    for path, leaf in layers.items():
        kind = specs[path.removesuffix(LORA_A).removesuffix(LORA_B)].kind
        if kind == "kernel":
            sizes[path] = leaf.size
        elif kind == "kernels" and routed is not None:
            sizes[path] = leaf.size * routed.experts_per_token() // routed.num_experts()
    return sizes


def attention_dims(model: Any) -> int:
    """Query heads times head dimension, summed over the layers in which tokens are scored against each other."""
    return sum(layer.mixer.score_width() for layer in model.config.all_layers)


def peak_flops_per_second() -> float | None:
    """Peak of all devices together; `None` where the kind is not in the table, as for CPUs."""
    kind = jax.devices()[0].device_kind.lower()
    peak = next((peak for name, peak in _PEAKS.items() if name in kind), None)
    return None if peak is None else peak * jax.device_count()
