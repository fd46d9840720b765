"""Qwen2 and Qwen3, dense: biases or norms on queries and keys, and windows for the upper layers where asked."""

import dataclasses
from types import MappingProxyType
from typing import Any

from easydel_models.families.family import Family
from easydel_models.families.keys import Keys
from easydel_models.families.layer_types import FULL, SLIDING, layer_types
from easydel_models.families.llama import LLAMA_TENSORS
from easydel_models.families.ropes import rope_of
from easydel_models.layers.attention import Attention
from easydel_models.layers.feed_forward import FeedForward
from easydel_models.layers.gated import Gated
from easydel_models.layers.layer import LayerConfig


def windows(keys: Keys) -> list[int | None]:
    """Returns the window of each layer: Qwen's apply from layer ``max_window_layers`` on, if they are used at all."""
    window, used = keys("sliding_window"), keys("use_sliding_window", False)
    window = window if used else None
    first = keys("max_window_layers", 28)
    types = layer_types(keys, lambda number: SLIDING if window is not None and number >= first else FULL)
    return [window if one == SLIDING else None for one in types]


def gated(keys: Keys) -> Gated:
    """Returns the dense feed-forward."""
    (width,) = keys.sizes("intermediate_size")
    return Gated(width=width, activation=keys.activation("hidden_act"))


def qwen2_attention(keys: Keys, window: int | None) -> Attention:
    """Returns a Qwen2 layer's attention: queries, keys and values have biases."""
    dim, heads = keys.sizes("hidden_size", "num_attention_heads")
    return Attention(
        num_heads=heads,
        num_kv_heads=keys("num_key_value_heads", heads),
        head_dim=keys("head_dim", dim // heads),
        rope=rope_of(keys),
        window=window,
        qkv_bias=keys("qkv_bias", True),
    )


def qwen3_attention(keys: Keys, window: int | None) -> Attention:
    """Returns a Qwen3 layer's attention: each head's queries and keys have a norm."""
    heads, head_dim = keys.sizes("num_attention_heads", "head_dim")
    bias = keys("attention_bias", False)
    return Attention(
        num_heads=heads,
        num_kv_heads=keys("num_key_value_heads", heads),
        head_dim=head_dim,
        rope=rope_of(keys),
        window=window,
        qkv_bias=bias,
        output_bias=bias,
        qk_norm="head",
    )


def _qwen2(keys: Keys) -> dict[str, Any]:
    keys.off("attention_dropout")
    feed_forward: FeedForward = gated(keys)
    mixers = [qwen2_attention(keys, window) for window in windows(keys)]
    return {"layers": tuple(LayerConfig(mixer=mixer, feed_forward=feed_forward) for mixer in mixers)}


def _qwen3(keys: Keys) -> dict[str, Any]:
    keys.off("attention_dropout")
    feed_forward: FeedForward = gated(keys)
    mixers = [qwen3_attention(keys, window) for window in windows(keys)]
    return {"layers": tuple(LayerConfig(mixer=mixer, feed_forward=feed_forward) for mixer in mixers)}


_COMMON = {"max_position_embeddings": 32_768, "num_key_value_heads": 32, "sliding_window": 4096}
QWEN2 = Family(
    model_type="qwen2",
    class_prefix="Qwen2",
    read=_qwen2,
    tensors=LLAMA_TENSORS,
    defaults=MappingProxyType(_COMMON),
)
QWEN2_5_VL_TEXT = dataclasses.replace(QWEN2, model_type="qwen2_5_vl_text")
QWEN3 = Family(
    model_type="qwen3",
    class_prefix="Qwen3",
    read=_qwen3,
    tensors=LLAMA_TENSORS,
    defaults=MappingProxyType(_COMMON | {"head_dim": 128}),
)
QWEN3_VL_TEXT = dataclasses.replace(QWEN3, model_type="qwen3_vl_text")
