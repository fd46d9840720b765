"""GLM-4: norms on both sides of each half, half of each head turned in neighbouring pairs, gate and up fused."""

from types import MappingProxyType
from typing import Any

from easydel_models.families.family import Family
from easydel_models.families.keys import Keys
from easydel_models.families.layer_types import layer_count
from easydel_models.families.llama import LLAMA_TENSORS
from easydel_models.families.ropes import rope_of
from easydel_models.families.stored import Fused, renamed, replaced
from easydel_models.layers.attention import Attention
from easydel_models.layers.gated import Gated
from easydel_models.layers.layer import LayerConfig


def _read(keys: Keys) -> dict[str, Any]:
    keys.off("attention_dropout")
    dim, width, heads = keys.sizes("hidden_size", "intermediate_size", "num_attention_heads")
    layer = LayerConfig(
        mixer=Attention(
            num_heads=heads,
            num_kv_heads=keys("num_key_value_heads", heads),
            head_dim=keys("head_dim", dim // heads),
            rope=rope_of(keys, fraction=0.5, interleaved=True),
            qkv_bias=keys("attention_bias", True),
        ),
        feed_forward=Gated(width=width, activation=keys.activation("hidden_act")),
        norms="sandwich",
    )
    return {"layers": (layer,) * layer_count(keys)}


GLM4 = Family(
    model_type="glm4",
    class_prefix="Glm4",
    read=_read,
    tensors=replaced(
        renamed(
            LLAMA_TENSORS,
            {
                "attention_post_norm": "model.layers.{layer}.post_self_attn_layernorm.weight",
                "mlp_post_norm": "model.layers.{layer}.post_mlp_layernorm.weight",
            },
        ),
        Fused(("gate", "up"), "model.layers.{layer}.mlp.gate_up_proj.weight"),
    ),
    defaults=MappingProxyType(
        {
            "max_position_embeddings": 131_072,
            "num_key_value_heads": 2,
            "head_dim": 128,
            "rms_norm_eps": 1.5625e-7,
        }
    ),
)
