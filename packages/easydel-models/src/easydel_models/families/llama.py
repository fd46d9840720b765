"""Llama and Mistral: the plain decoder, which most other families change a little."""

from types import MappingProxyType
from typing import Any

from easydel_models.families.family import Family
from easydel_models.families.keys import Keys
from easydel_models.families.ropes import rope_of
from easydel_models.families.stored import Stored, Whole, linear_tensors

LLAMA_TENSORS: tuple[Stored, ...] = (
    Whole("embedding", "model.embed_tokens.weight"),
    Whole("attention_norm", "model.layers.{layer}.input_layernorm.weight"),
    *linear_tensors(
        {
            "query": "model.layers.{layer}.self_attn.q_proj",
            "key": "model.layers.{layer}.self_attn.k_proj",
            "value": "model.layers.{layer}.self_attn.v_proj",
            "output": "model.layers.{layer}.self_attn.o_proj",
        }
    ),
    Whole("query_norm", "model.layers.{layer}.self_attn.q_norm.weight"),
    Whole("key_norm", "model.layers.{layer}.self_attn.k_norm.weight"),
    Whole("mlp_norm", "model.layers.{layer}.post_attention_layernorm.weight"),
    *linear_tensors(
        {
            "gate": "model.layers.{layer}.mlp.gate_proj",
            "up": "model.layers.{layer}.mlp.up_proj",
            "down": "model.layers.{layer}.mlp.down_proj",
        }
    ),
    Whole("final_norm", "model.norm.weight"),
    Whole("head", "lm_head.weight"),
    Whole("score", "score.weight"),
)
"""Names that most families share; which of them a decoder has follows from its parameters."""


def uniform_sizes(keys: Keys) -> dict[str, Any]:
    """Returns the arguments of a decoder whose layers are all Llama's."""
    mlp_dim, layers, heads = keys.sizes("intermediate_size", "num_hidden_layers", "num_attention_heads")
    return {
        "num_layers": layers,
        "num_heads": heads,
        "num_kv_heads": keys("num_key_value_heads", heads),
        "head_dim": keys("head_dim", 0),
        "mlp_dim": mlp_dim,
        "activation": keys.activation("hidden_act"),
        "rope": rope_of(keys),
    }


def _llama(keys: Keys) -> dict[str, Any]:
    keys.off("attention_dropout", "rope_interleaved")  # SmolLM writes the second
    return uniform_sizes(keys) | {
        "attention_bias": keys("attention_bias", False),
        "mlp_bias": keys("mlp_bias", False),
    }


def _mistral(keys: Keys) -> dict[str, Any]:
    keys.off("attention_dropout")
    return uniform_sizes(keys) | {"sliding_window": keys("sliding_window")}


# Llama 1-3, SmolLM, SmolLM2, TinyLlama, Yi, DeepSeek-R1-Distill-Llama all call themselves "llama".
LLAMA = Family(
    model_type="llama",
    class_prefix="Llama",
    read=_llama,
    tensors=LLAMA_TENSORS,
    defaults=MappingProxyType({"max_position_embeddings": 2048}),
)
MISTRAL = Family(
    model_type="mistral",
    class_prefix="Mistral",
    read=_mistral,
    tensors=LLAMA_TENSORS,
    defaults=MappingProxyType({"max_position_embeddings": 131_072, "num_key_value_heads": 8, "sliding_window": 4096}),
)
