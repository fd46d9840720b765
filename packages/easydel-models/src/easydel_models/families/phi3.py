"""Phi-3 and Phi-4: Llama with queries, keys and values in one tensor, gate and up in another, and LongRoPE."""

from types import MappingProxyType
from typing import Any

from easydel_models.families.family import Family
from easydel_models.families.keys import Keys
from easydel_models.families.layer_types import layer_count
from easydel_models.families.llama import LLAMA_TENSORS
from easydel_models.families.qwen import gated
from easydel_models.families.ropes import rope_of
from easydel_models.families.stored import Fused, replaced
from easydel_models.layers.attention import Attention
from easydel_models.layers.layer import LayerConfig


def _read(keys: Keys) -> dict[str, Any]:
    keys.off("attention_dropout", "resid_pdrop", "embd_pdrop", "attention_bias")
    keys.ignored("original_max_position_embeddings")  # without LongRoPE it says nothing
    dim, heads = keys.sizes("hidden_size", "num_attention_heads")
    layer = LayerConfig(
        mixer=Attention(
            num_heads=heads,
            num_kv_heads=keys("num_key_value_heads", heads),
            head_dim=dim // heads,
            rope=rope_of(keys),
            window=keys("sliding_window"),
        ),
        feed_forward=gated(keys),
    )
    return {"layers": (layer,) * layer_count(keys)}


PHI3 = Family(
    model_type="phi3",
    class_prefix="Phi3",
    read=_read,
    tensors=replaced(
        LLAMA_TENSORS,
        Fused(("query", "key", "value"), "model.layers.{layer}.self_attn.qkv_proj.weight"),
        Fused(("gate", "up"), "model.layers.{layer}.mlp.gate_up_proj.weight"),
    ),
    defaults=MappingProxyType(
        {"max_position_embeddings": 4096, "original_max_position_embeddings": 4096, "rms_norm_eps": 1e-5}
    ),
)
