"""Gemma 1 to 3: norms stored as the difference from 1, scaled embeddings, windows, soft caps, norms on both sides."""

import math
from types import MappingProxyType
from typing import Any

from easydel_models.families.family import Family
from easydel_models.families.keys import Keys
from easydel_models.families.layer_types import FULL, SLIDING, every, layer_count, layer_types
from easydel_models.families.llama import LLAMA_TENSORS
from easydel_models.families.ropes import rope_of
from easydel_models.families.stored import renamed
from easydel_models.layers.attention import Attention
from easydel_models.layers.gated import Gated
from easydel_models.layers.layer import LayerConfig
from easydel_models.layers.norms import NormConfig

SANDWICH_NAMES = {
    "attention_post_norm": "model.layers.{layer}.post_attention_layernorm.weight",
    "mlp_norm": "model.layers.{layer}.pre_feedforward_layernorm.weight",
    "mlp_post_norm": "model.layers.{layer}.post_feedforward_layernorm.weight",
}


def _heads(keys: Keys) -> dict[str, Any]:
    heads, kv_heads, head_dim = keys.sizes("num_attention_heads", "num_key_value_heads", "head_dim")
    bias = keys("attention_bias", False)
    return {
        "num_heads": heads,
        "num_kv_heads": kv_heads,
        "head_dim": head_dim,
        "qkv_bias": bias,
        "output_bias": bias,
    }


def _common(keys: Keys) -> dict[str, Any]:
    keys.off("attention_dropout", "use_bidirectional_attention")
    return {
        "norm": NormConfig(eps=keys("rms_norm_eps", 1e-6), offset=1.0),
        "embedding_scale": math.sqrt(keys("hidden_size")),
        "logit_softcap": keys("final_logit_softcapping"),
    }


def _gated(keys: Keys) -> Gated:
    (width,) = keys.sizes("intermediate_size")
    return Gated(width=width, activation=keys.activation("hidden_activation", default="gelu_pytorch_tanh"))


def _gemma(keys: Keys) -> dict[str, Any]:
    # Its first files say "gelu" and mean the approximation by tanh, in either of two keys.
    keys.ignored("hidden_act", "hidden_activation")
    (width,) = keys.sizes("intermediate_size")
    layer = LayerConfig(
        mixer=Attention(**_heads(keys), rope=rope_of(keys)),
        feed_forward=Gated(width=width, activation="gelu_tanh"),
    )
    return {**_common(keys), "layers": (layer,) * layer_count(keys)}


def _gemma2(keys: Keys) -> dict[str, Any]:
    keys.ignored("hidden_act")
    mixers = {
        kind: Attention(
            **_heads(keys),
            rope=rope_of(keys),
            window=keys("sliding_window") if kind == SLIDING else None,
            scale=keys("query_pre_attn_scalar") ** -0.5,
            softcap=keys("attn_logit_softcapping"),
        )
        for kind in (FULL, SLIDING)
    }
    feed_forward = _gated(keys)
    return {
        **_common(keys),
        "layers": tuple(
            LayerConfig(mixer=mixers[kind], feed_forward=feed_forward, norms="sandwich")
            for kind in layer_types(keys, every(2))
        ),
    }


def _gemma3(keys: Keys) -> dict[str, Any]:
    keys.ignored("hidden_act")
    pattern = keys("sliding_window_pattern") or keys("_sliding_window_pattern") or 6
    ropes = {
        FULL: rope_of(keys, layer_type=FULL, theta=1_000_000.0),
        SLIDING: rope_of(keys, layer_type=SLIDING, theta=keys("rope_local_base_freq", 10_000.0), plain=True),
    }
    mixers = {
        kind: Attention(
            **_heads(keys),
            rope=ropes[kind],
            window=keys("sliding_window") if kind == SLIDING else None,
            scale=keys("query_pre_attn_scalar") ** -0.5,
            softcap=keys("attn_logit_softcapping"),
            qk_norm="head",
        )
        for kind in (FULL, SLIDING)
    }
    feed_forward = _gated(keys)
    return {
        **_common(keys),
        "layers": tuple(
            LayerConfig(mixer=mixers[kind], feed_forward=feed_forward, norms="sandwich")
            for kind in layer_types(keys, every(pattern))
        ),
    }


_SIZES = {"head_dim": 256, "tie_word_embeddings": True, "max_position_embeddings": 8192}
_SANDWICH_TENSORS = renamed(LLAMA_TENSORS, SANDWICH_NAMES)
GEMMA = Family(
    model_type="gemma",
    class_prefix="Gemma",
    read=_gemma,
    tensors=LLAMA_TENSORS,
    defaults=MappingProxyType(_SIZES | {"num_key_value_heads": 16}),
)
GEMMA2 = Family(
    model_type="gemma2",
    class_prefix="Gemma2",
    read=_gemma2,
    tensors=_SANDWICH_TENSORS,
    defaults=MappingProxyType(
        _SIZES
        | {
            "num_key_value_heads": 4,
            "sliding_window": 4096,
            "query_pre_attn_scalar": 256,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
        }
    ),
)
GEMMA3_TEXT = Family(
    model_type="gemma3_text",
    class_prefix="Gemma3",
    read=_gemma3,
    tensors=_SANDWICH_TENSORS,
    defaults=MappingProxyType(
        _SIZES
        | {
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "sliding_window": 4096,
            "query_pre_attn_scalar": 256,
            "max_position_embeddings": 131_072,
            "vocab_size": 262_208,
        }
    ),
)
