"""OLMo 2 and 3: norms after each half, and over all heads of queries and keys together; windows in OLMo 3."""

from types import MappingProxyType
from typing import Any

from easydel_models.families.family import Family
from easydel_models.families.keys import Keys
from easydel_models.families.layer_types import FULL, SLIDING, every, layer_types
from easydel_models.families.llama import LLAMA_TENSORS
from easydel_models.families.qwen import gated
from easydel_models.families.ropes import rope_of
from easydel_models.families.stored import renamed
from easydel_models.layers.attention import Attention
from easydel_models.layers.layer import LayerConfig
from easydel_models.layers.rope import RopeConfig

_TENSORS = renamed(
    LLAMA_TENSORS,
    {
        "attention_post_norm": "model.layers.{layer}.post_attention_layernorm.weight",
        "mlp_norm": "model.layers.{layer}.pre_feedforward_layernorm.weight",
        "mlp_post_norm": "model.layers.{layer}.post_feedforward_layernorm.weight",
    },
)


def _attention(keys: Keys, rope: RopeConfig, window: int | None) -> Attention:
    dim, heads = keys.sizes("hidden_size", "num_attention_heads")
    bias = keys("attention_bias", False)
    return Attention(
        num_heads=heads,
        num_kv_heads=keys("num_key_value_heads", heads),
        head_dim=keys("head_dim", dim // heads),
        rope=rope,
        window=window,
        qkv_bias=bias,
        output_bias=bias,
        qk_norm="all",
    )


def _olmo2(keys: Keys) -> dict[str, Any]:
    return _layers(keys, dict.fromkeys((FULL, SLIDING), rope_of(keys)), [FULL] * keys.sizes("num_hidden_layers")[0])


def _olmo3(keys: Keys) -> dict[str, Any]:
    ropes = {
        FULL: rope_of(keys, layer_type=FULL, theta=500_000.0),
        SLIDING: rope_of(keys, layer_type=SLIDING, theta=500_000.0, plain=True),
    }
    return _layers(keys, ropes, layer_types(keys, every(4)))


def _layers(keys: Keys, ropes: dict[str, RopeConfig], types: list[str]) -> dict[str, Any]:
    keys.off("attention_dropout", "clip_qkv")
    feed_forward = gated(keys)
    mixers = {
        kind: _attention(keys, ropes[kind], keys("sliding_window") if kind == SLIDING else None) for kind in ropes
    }
    layers = (LayerConfig(mixer=mixers[kind], feed_forward=feed_forward, norms="post") for kind in types)
    return {"layers": tuple(layers)}


_DEFAULTS = {"max_position_embeddings": 2048, "rms_norm_eps": 1e-5}
OLMO2 = Family(
    model_type="olmo2", class_prefix="Olmo2", read=_olmo2, tensors=_TENSORS, defaults=MappingProxyType(_DEFAULTS)
)
OLMO3 = Family(
    model_type="olmo3",
    class_prefix="Olmo3",
    read=_olmo3,
    tensors=_TENSORS,
    defaults=MappingProxyType(_DEFAULTS | {"sliding_window": 4096}),
)
