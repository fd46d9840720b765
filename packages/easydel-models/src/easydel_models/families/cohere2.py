"""Command R7B and A (Cohere 2): one norm before both halves, rope in the layers with windows alone, scaled logits."""

from types import MappingProxyType
from typing import Any

from easydel_models.families.family import Family
from easydel_models.families.keys import Keys
from easydel_models.families.layer_types import FULL, SLIDING, every, layer_types
from easydel_models.families.llama import LLAMA_TENSORS
from easydel_models.families.qwen import gated
from easydel_models.families.ropes import rope_of
from easydel_models.layers.attention import Attention
from easydel_models.layers.layer import LayerConfig
from easydel_models.layers.norms import NormConfig


def _read(keys: Keys) -> dict[str, Any]:
    keys.off("attention_dropout", "use_qk_norm")
    keys.ignored("use_gated_activation", "use_parallel_block", "use_parallel_embedding", "rotary_pct", "rope_scaling")
    keys.ignored("position_embedding_type", "order_of_interleaved_layers", "use_embedding_sharing", "layer_switch")
    dim, heads = keys.sizes("hidden_size", "num_attention_heads")
    bias, feed_forward = keys("attention_bias", False), gated(keys)
    pattern = keys("sliding_window_pattern") or keys("_sliding_window_pattern") or 4

    def layer(kind: str) -> LayerConfig:
        mixer = Attention(
            num_heads=heads,
            num_kv_heads=keys("num_key_value_heads", heads),
            head_dim=keys("head_dim", dim // heads),
            rope=rope_of(keys, interleaved=True) if kind == SLIDING else None,
            window=keys("sliding_window") if kind == SLIDING else None,
            qkv_bias=bias,
            output_bias=bias,
        )
        return LayerConfig(mixer=mixer, feed_forward=feed_forward, norms="parallel")

    kinds = {kind: layer(kind) for kind in (FULL, SLIDING)}
    return {
        "layers": tuple(kinds[kind] for kind in layer_types(keys, every(pattern))),
        "norm": NormConfig(kind="layer", eps=keys("layer_norm_eps", 1e-5)),
        "logit_scale": float(keys("logit_scale", 0.0625)),
    }


COHERE2 = Family(
    model_type="cohere2",
    class_prefix="Cohere2",
    read=_read,
    tensors=LLAMA_TENSORS,
    defaults=MappingProxyType({"max_position_embeddings": 8192, "sliding_window": 4096, "tie_word_embeddings": True}),
)
