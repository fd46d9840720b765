"""SmolLM3: every fourth layer knows no positions."""

from types import MappingProxyType
from typing import Any

from easydel_models.families.family import Family
from easydel_models.families.keys import Keys
from easydel_models.families.layer_types import FULL, SLIDING, layer_count, layer_types
from easydel_models.families.llama import LLAMA_TENSORS
from easydel_models.families.ropes import rope_of
from easydel_models.layers.attention import Attention
from easydel_models.layers.gated import Gated
from easydel_models.layers.layer import LayerConfig


def _read(keys: Keys) -> dict[str, Any]:
    keys.off("attention_dropout")
    dim, width, heads = keys.sizes("hidden_size", "intermediate_size", "num_attention_heads")
    count, interval, bias = layer_count(keys), keys("no_rope_layer_interval", 4), keys("attention_bias", False)
    turning = keys("no_rope_layers") or [int((number + 1) % interval != 0) for number in range(count)]
    window, used = keys("sliding_window"), keys("use_sliding_window", False)
    window = window if used else None
    keys.ignored("max_window_layers")
    types = layer_types(keys, lambda number: SLIDING if window is not None and not turning[number] else FULL)
    rope = rope_of(keys, theta=2_000_000.0)
    feed_forward = Gated(width=width, activation=keys.activation("hidden_act"), bias=keys("mlp_bias", False))

    def layer(number: int) -> LayerConfig:
        mixer = Attention(
            num_heads=heads,
            num_kv_heads=keys("num_key_value_heads", heads),
            head_dim=keys("head_dim", dim // heads),
            rope=rope if turning[number] else None,
            window=window if types[number] == SLIDING else None,
            qkv_bias=bias,
            output_bias=bias,
        )
        return LayerConfig(mixer=mixer, feed_forward=feed_forward)

    return {"layers": tuple(layer(number) for number in range(count))}


SMOLLM3 = Family(
    model_type="smollm3",
    class_prefix="SmolLM3",
    read=_read,
    tensors=LLAMA_TENSORS,
    defaults=MappingProxyType(
        {"max_position_embeddings": 32_768, "num_key_value_heads": 4, "tie_word_embeddings": True}
    ),
)
