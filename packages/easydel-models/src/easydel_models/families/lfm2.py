"""LFM2: short convolutions, with attention in between, both before a gated feed-forward."""

from types import MappingProxyType
from typing import Any

from easydel_models.families.family import Family
from easydel_models.families.fused import Taps
from easydel_models.families.keys import Keys
from easydel_models.families.layer_types import FULL, layer_count, layer_types
from easydel_models.families.llama import LLAMA_TENSORS
from easydel_models.families.ropes import rope_of
from easydel_models.families.stored import Fused, Whole, linear_tensors, renamed
from easydel_models.layers.attention import Attention
from easydel_models.layers.convolution import ShortConvolution
from easydel_models.layers.gated import Gated
from easydel_models.layers.layer import LayerConfig
from easydel_models.layers.norms import NormConfig

CONVOLUTION = "conv"
_CONV = "model.layers.{layer}.conv"
_GATES = ("before_gate", "after_gate", "convolved")


def _feed_forward_width(keys: Keys) -> int:
    width = keys("block_ff_dim") or keys.sizes("intermediate_size")[0]
    keys.ignored("block_ffn_dim_multiplier", "block_multiple_of", "block_mlp_init_scale", "block_norm_eps", "block_dim")
    keys.ignored("intermediate_size", "block_use_swiglu", "block_use_xavier_init", "conv_use_xavier_init", "conv_dim")
    keys.ignored("conv_dim_out", "use_pos_enc", "theta", "num_heads")
    if not keys("block_auto_adjust_ff_dim", True):
        return width
    width = int(2 * width / 3)
    multiplier, multiple = keys("block_ffn_dim_multiplier", 1.0), keys("block_multiple_of", 256)
    if multiplier is not None:
        width = multiple * ((int(multiplier * width) + multiple - 1) // multiple)
    return width


def _read(keys: Keys) -> dict[str, Any]:
    keys.off("attention_dropout")
    dim, heads = keys.sizes("hidden_size", "num_attention_heads")
    full = keys("full_attn_idxs")
    full = range(layer_count(keys)) if full is None else full
    attention = Attention(
        num_heads=heads,
        num_kv_heads=keys("num_key_value_heads", heads),
        head_dim=dim // heads,
        rope=rope_of(keys, theta=1_000_000.0),
        qk_norm="head",
    )
    convolution = ShortConvolution(width=dim, taps=keys("conv_L_cache", 3), bias=keys("conv_bias", False))
    half = Gated(width=_feed_forward_width(keys))
    types = layer_types(keys, lambda number: FULL if number in full else CONVOLUTION, (FULL, CONVOLUTION))
    return {
        "norm": NormConfig(eps=keys("norm_eps", 1e-5)),
        "tie_embeddings": keys("tie_word_embeddings", keys("tie_embedding", True)),
        "layers": tuple(
            LayerConfig(mixer=attention if kind == FULL else convolution, feed_forward=half) for kind in types
        ),
    }


LFM2 = Family(
    model_type="lfm2",
    class_prefix="Lfm2",
    read=_read,
    tensors=(
        *renamed(
            LLAMA_TENSORS,
            {
                "attention_norm": "model.layers.{layer}.operator_norm.weight",
                "mlp_norm": "model.layers.{layer}.ffn_norm.weight",
                "query_norm": "model.layers.{layer}.self_attn.q_layernorm.weight",
                "key_norm": "model.layers.{layer}.self_attn.k_layernorm.weight",
                "output": "model.layers.{layer}.self_attn.out_proj.weight",
                "gate": "model.layers.{layer}.feed_forward.w1.weight",
                "up": "model.layers.{layer}.feed_forward.w3.weight",
                "down": "model.layers.{layer}.feed_forward.w2.weight",
                "final_norm": "model.embedding_norm.weight",
            },
        ),
        Fused(_GATES, f"{_CONV}.in_proj.weight"),
        Fused(tuple(f"{name}_bias" for name in _GATES), f"{_CONV}.in_proj.bias"),
        Taps(("convolution",), f"{_CONV}.conv.weight"),
        Whole("convolution_bias", f"{_CONV}.conv.bias"),
        *linear_tensors({"convolution_output": f"{_CONV}.out_proj"}),
    ),
    defaults=MappingProxyType({"max_position_embeddings": 128_000, "num_key_value_heads": 8}),
)
