"""Small decoders of every kind of layer, each of which every axis of a small mesh can cut."""

from __future__ import annotations

import dataclasses
from typing import Any

from easydel_models import DecoderConfig
from easydel_models.experts.routing import RouterConfig
from easydel_models.layers.attention import Attention
from easydel_models.layers.convolution import ShortConvolution
from easydel_models.layers.delta_net import DeltaNet
from easydel_models.layers.experts import DenseAndExperts, Experts
from easydel_models.layers.gated import Gated
from easydel_models.layers.latent_attention import LatentAttention
from easydel_models.layers.layer import LayerConfig

SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "dim": 32,
    "tie_embeddings": True,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}
ATTENTION = Attention(num_heads=8, num_kv_heads=4, head_dim=8)
WINDOW = dataclasses.replace(ATTENTION, window=3)
GATED = Gated(width=64)
ROUTER = RouterConfig(num_experts=8, experts_per_token=2, normalize=True)
EXPERTS = Experts(router=ROUTER, width=16)


def layers_of(mixer: Any, feed_forward: Any = GATED, **fields: Any) -> LayerConfig:
    """One layer."""
    return LayerConfig(mixer=mixer, feed_forward=feed_forward, **fields)


def _gemma4() -> dict[str, Any]:
    beside = DenseAndExperts(router=ROUTER, width=16, dense_width=32)
    told = {"norms": "sandwich", "own_input": 8, "scalar": True}
    first = dataclasses.replace(ATTENTION, qk_norm="head", value_norm=True, publishes="full", key_is_value=True)
    second = dataclasses.replace(first, publishes=None, key_is_value=False, shares="full")
    layers = (layers_of(WINDOW, beside, **told), layers_of(first, beside, **told), layers_of(second, beside, **told))
    # Two more, so that what is told to all of them divides among eight devices.
    # Five sandwiches of larger weights make too much of rounding.
    return {
        "layers": (layers[0], *layers, layers[2]),
        "own_inputs": 8,
        "own_vocab_size": 96,
        "initializer_range": 0.1,
    }


DELTA = DeltaNet(num_key_heads=4, num_value_heads=8, key_dim=8, value_dim=8)
LATENT = LatentAttention(num_heads=8, key_dim=8, rope_dim=4, value_dim=8, latent_dim=16, query_latent_dim=16, bias=True)
GROUPED = RouterConfig(
    num_experts=8, experts_per_token=2, scores="sigmoid", groups=4, groups_per_token=2, normalize=True, scale=2.0
)
OF_GPT_OSS = Experts(
    router=RouterConfig(num_experts=8, experts_per_token=2, scores="softmax_of_chosen"), width=16, bias=True, clamp=2.0
)
SHARED = Experts(router=ROUTER, width=16, shared_width=16, shared_share=True)

KINDS: dict[str, dict[str, Any]] = {
    "dense": {"layers": (layers_of(ATTENTION),) * 2},
    "experts": {"layers": (layers_of(ATTENTION), layers_of(ATTENTION, EXPERTS), layers_of(ATTENTION, EXPERTS))},
    "gpt_oss": {
        "layers": tuple(
            layers_of(dataclasses.replace(mixer, sinks=True, qkv_bias=True, output_bias=True), OF_GPT_OSS)
            for mixer in (WINDOW, ATTENTION)
        )
    },
    "gemma4": _gemma4(),
    "delta": {
        "layers": (
            layers_of(DELTA, SHARED),
            layers_of(DELTA, SHARED),
            layers_of(dataclasses.replace(ATTENTION, gated=True, qk_norm="head"), SHARED),
        ),
        "initializer_range": 0.1,  # three layers of it with larger weights make too much of rounding
    },
    "convolution": {"layers": (layers_of(ShortConvolution(width=32)), layers_of(ATTENTION))},
    "latent": {
        "layers": (
            layers_of(LATENT),
            layers_of(LATENT, Experts(router=GROUPED, width=16, selection_bias=True, shared_width=32)),
        )
    },
    "windows": {"layers": tuple(layers_of(mixer) for mixer in (WINDOW, WINDOW, ATTENTION) * 2)},
    "norm of all heads": {
        "layers": (layers_of(dataclasses.replace(ATTENTION, qk_norm="all"), norms="post"),) * 2,
    },
}
"""Fields of `DecoderConfig` by kind; `SIZES` are the others."""

WITH_EXPERTS = ("experts", "gpt_oss", "gemma4", "delta", "latent")


def small_config(kind: str, **fields: Any) -> DecoderConfig:
    """The configuration of one kind."""
    return DecoderConfig(**SIZES | KINDS[kind] | fields)
