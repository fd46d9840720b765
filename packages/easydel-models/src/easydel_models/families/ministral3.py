"""Ministral 3: Mistral whose queries grow with their position, beyond the length it was first trained with."""

from types import MappingProxyType
from typing import Any

from easydel_models.families.family import Family
from easydel_models.families.keys import Keys
from easydel_models.families.layer_types import layer_count
from easydel_models.families.llama import LLAMA_TENSORS
from easydel_models.families.qwen import gated
from easydel_models.families.ropes import rope_of
from easydel_models.layers.attention import Attention
from easydel_models.layers.layer import LayerConfig


def _read(keys: Keys) -> dict[str, Any]:
    keys.off("attention_dropout")
    heads, head_dim = keys.sizes("num_attention_heads", "head_dim")
    rope = rope_of(keys)
    scaling = keys("rope_parameters") or keys("rope_scaling") or {}
    layer = LayerConfig(
        mixer=Attention(
            num_heads=heads,
            num_kv_heads=keys("num_key_value_heads", heads),
            head_dim=head_dim,
            rope=rope,
            window=keys("sliding_window"),
            query_growth=float(scaling.get("llama_4_scaling_beta") or 0.0),
        ),
        feed_forward=gated(keys),
    )
    return {"layers": (layer,) * layer_count(keys)}


MINISTRAL3 = Family(
    model_type="ministral3",
    class_prefix="Ministral3",
    read=_read,
    tensors=LLAMA_TENSORS,
    defaults=MappingProxyType(
        {"max_position_embeddings": 262_144, "num_key_value_heads": 8, "head_dim": 128, "rms_norm_eps": 1e-5}
    ),
)
