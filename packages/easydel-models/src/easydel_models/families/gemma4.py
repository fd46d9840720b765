"""Gemma 4, dense and with experts: wider heads where all is seen, keys that are values, inputs of each layer's own.

References: Gemma Team, Gemma 3n and Gemma 4 model cards; the mathematics follows transformers' `gemma4`.
"""

import math
from types import MappingProxyType
from typing import Any

from easydel_models.errors import ConfigError
from easydel_models.experts.routing import RouterConfig
from easydel_models.families.family import Family
from easydel_models.families.fused import AllExperts
from easydel_models.families.gemma import SANDWICH_NAMES
from easydel_models.families.keys import Keys
from easydel_models.families.layer_types import FULL, SLIDING, every, layer_types
from easydel_models.families.llama import LLAMA_TENSORS
from easydel_models.families.ropes import rope_of
from easydel_models.families.stored import Stored, Whole, renamed
from easydel_models.layers.attention import Attention
from easydel_models.layers.experts import DenseAndExperts
from easydel_models.layers.feed_forward import FeedForward
from easydel_models.layers.gated import Gated
from easydel_models.layers.layer import LayerConfig
from easydel_models.layers.norms import NormConfig


def _read(keys: Keys) -> dict[str, Any]:
    keys.off("attention_dropout", "use_bidirectional_attention")
    kinds = layer_types(keys, every(6))
    kinds = [*kinds[:-1], FULL]  # the last layer sees everything, whatever the list says
    own_inputs, own_vocab_size = keys("hidden_size_per_layer_input", 0), keys("vocab_size_per_layer_input")
    return {
        "layers": tuple(_layer(keys, kinds, number) for number in range(len(kinds))),
        "norm": NormConfig(eps=keys("rms_norm_eps", 1e-6)),
        "embedding_scale": math.sqrt(keys("hidden_size")),
        "logit_softcap": keys("final_logit_softcapping"),
        "own_inputs": own_inputs,
        "own_vocab_size": own_vocab_size if own_inputs else 0,
    }


def _layer(keys: Keys, kinds: list[str], number: int) -> LayerConfig:
    shared = keys("num_kv_shared_layers", 0)
    reuses = number >= len(kinds) - shared
    activation = keys.activation("hidden_activation", default="gelu_pytorch_tanh")
    return LayerConfig(
        mixer=_attention(keys, kinds, number),
        feed_forward=_feed_forward(keys, wide=keys("use_double_wide_mlp", False) and reuses),
        norms="sandwich",
        own_input=keys("hidden_size_per_layer_input", 0),
        own_activation=activation,
        scalar=True,
    )


def _feed_forward(keys: Keys, *, wide: bool) -> FeedForward:
    (width,) = keys.sizes("intermediate_size")
    activation = keys.activation("hidden_activation", default="gelu_pytorch_tanh")
    width = 2 * width if wide else width
    experts, chosen, of_expert = keys("num_experts"), keys("top_k_experts"), keys("moe_intermediate_size")
    if not keys("enable_moe_block", False):
        return Gated(width=width, activation=activation)
    if not experts or not chosen or not of_expert:
        raise ConfigError(
            "config.json sets enable_moe_block; expected num_experts, top_k_experts, moe_intermediate_size."
        )
    router = RouterConfig(num_experts=experts, experts_per_token=chosen, normalize=True)
    return DenseAndExperts(router=router, width=of_expert, dense_width=width, activation=activation)


def _attention(keys: Keys, kinds: list[str], number: int) -> Attention:
    kind, bias = kinds[number], keys("attention_bias", False)
    heads, kv_heads, head_dim = keys.sizes("num_attention_heads", "num_key_value_heads", "head_dim")
    own = _own_sizes(keys, kind, number)
    key_is_value = keys("attention_k_eq_v", False) and kind == FULL
    first_shared = len(kinds) - keys("num_kv_shared_layers", 0)
    last_of_kind = max((layer for layer in range(first_shared) if kinds[layer] == kind), default=-1)
    return Attention(
        num_heads=heads,
        num_kv_heads=own.get("num_key_value_heads", kv_heads),
        head_dim=own.get("head_dim", head_dim),
        rope=_rope(keys, kind),
        window=keys("sliding_window") if kind == SLIDING else None,
        qkv_bias=bias,
        output_bias=bias,
        qk_norm="head",
        scale=1.0,
        value_norm=True,
        key_is_value=key_is_value,
        shares=kind if number >= first_shared else None,
        publishes=kind if first_shared < len(kinds) and number == last_of_kind else None,
    )


def _own_sizes(keys: Keys, kind: str, number: int) -> dict[str, int]:
    """Returns what a layer's sizes are where they differ from the others'."""
    each = keys("per_layer_config")
    wide, kv_heads = keys("global_head_dim", 512), keys("num_global_key_value_heads")
    if each is not None:
        return each.get(str(number), {})
    if kind != FULL:
        return {}
    return {"head_dim": wide} | ({"num_key_value_heads": kv_heads} if kv_heads and keys("attention_k_eq_v") else {})


def _rope(keys: Keys, kind: str) -> Any:
    if keys("rope_parameters") is None and kind == FULL:
        return rope_of(keys, layer_type=kind, theta=1_000_000.0, fraction=0.25, kind="proportional", plain=True)
    return rope_of(keys, layer_type=kind, theta=10_000.0, plain=True)


_OF_LAYER = "model.layers.{layer}"
_EXPERTS: tuple[Stored, ...] = (
    Whole("router", f"{_OF_LAYER}.router.proj.weight"),
    Whole("router_scale", f"{_OF_LAYER}.router.scale"),
    Whole("expert_scale", f"{_OF_LAYER}.router.per_expert_scale"),
    AllExperts(("expert_gate", "expert_up"), f"{_OF_LAYER}.experts.gate_up_proj"),
    AllExperts(("expert_down",), f"{_OF_LAYER}.experts.down_proj"),
    Whole("dense_post_norm", f"{_OF_LAYER}.post_feedforward_layernorm_1.weight"),
    Whole("experts_norm", f"{_OF_LAYER}.pre_feedforward_layernorm_2.weight"),
    Whole("experts_post_norm", f"{_OF_LAYER}.post_feedforward_layernorm_2.weight"),
)
GEMMA4_TEXT = Family(
    model_type="gemma4_text",
    class_prefix="Gemma4",
    read=_read,
    tensors=(
        *_EXPERTS,
        *renamed(
            LLAMA_TENSORS,
            {
                **SANDWICH_NAMES,
                "layer_scalar": "model.layers.{layer}.layer_scalar",
                "own_input_gate": "model.layers.{layer}.per_layer_input_gate.weight",
                "own_input_projection": "model.layers.{layer}.per_layer_projection.weight",
                "own_input_norm": "model.layers.{layer}.post_per_layer_input_norm.weight",
                "own_embedding": "model.embed_tokens_per_layer.weight",
                "own_projection": "model.per_layer_model_projection.weight",
                "own_norm": "model.per_layer_projection_norm.weight",
            },
        ),
    ),
    defaults=MappingProxyType(
        {
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "sliding_window": 512,
            "vocab_size": 262_144,
            "max_position_embeddings": 131_072,
            "tie_word_embeddings": True,
            "hidden_size_per_layer_input": 256,
            "vocab_size_per_layer_input": 262_144,
        }
    ),
)
