"""Granite: Llama with factors on embeddings, scores, residuals and logits."""

from types import MappingProxyType
from typing import Any

from easydel_models.families.family import Family
from easydel_models.families.keys import Keys
from easydel_models.families.layer_types import layer_count
from easydel_models.families.llama import LLAMA_TENSORS
from easydel_models.families.ropes import rope_of
from easydel_models.layers.attention import Attention
from easydel_models.layers.gated import Gated
from easydel_models.layers.layer import LayerConfig


def _read(keys: Keys) -> dict[str, Any]:
    keys.off("attention_dropout")
    dim, width, heads = keys.sizes("hidden_size", "intermediate_size", "num_attention_heads")
    bias = keys("attention_bias", False)
    layer = LayerConfig(
        mixer=Attention(
            num_heads=heads,
            num_kv_heads=keys("num_key_value_heads", heads),
            head_dim=keys("head_dim", dim // heads),
            rope=rope_of(keys),
            qkv_bias=bias,
            output_bias=bias,
            scale=float(keys("attention_multiplier", 1.0)),
        ),
        feed_forward=Gated(width=width, activation=keys.activation("hidden_act"), bias=keys("mlp_bias", False)),
        residual_scale=float(keys("residual_multiplier", 1.0)),
    )
    return {
        "layers": (layer,) * layer_count(keys),
        "embedding_scale": float(keys("embedding_multiplier", 1.0)),
        "logit_scale": 1.0 / keys("logits_scaling", 1.0),
    }


GRANITE = Family(
    model_type="granite",
    class_prefix="Granite",
    read=_read,
    tensors=LLAMA_TENSORS,
    defaults=MappingProxyType({"max_position_embeddings": 2048}),
)
