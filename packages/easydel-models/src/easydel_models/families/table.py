"""Model families: what their weights are called in Hugging Face folders, and what their configs may say.

Adding a family is adding one `Family` to `FAMILIES`: its names, its defaults, its switches. The forward pass
is not touched, unless the family computes something that no `DecoderConfig` switch expresses yet.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from easydel_models.errors import ConfigError
from easydel_models.shown import quoted


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """One row of the table of families."""

    model_type: str
    """The ``model_type`` of config.json."""
    class_prefix: str
    """What the family's classes in transformers begin with, as in ``LlamaForCausalLM``."""
    names: Mapping[str, str]
    """Our parameter (dotted path) -> tensor name; ``{layer}`` stands for the layer's number."""
    defaults: Mapping[str, Any]
    """Values transformers assumes for keys that config.json leaves out, where these matter to the numbers."""
    switches: frozenset[str]
    """Keys that this family has beyond those which every family has."""


_LLAMA_NAMES = MappingProxyType(
    {
        "embedding": "model.embed_tokens.weight",
        "layers.attention_norm": "model.layers.{layer}.input_layernorm.weight",
        "layers.query": "model.layers.{layer}.self_attn.q_proj.weight",
        "layers.query_bias": "model.layers.{layer}.self_attn.q_proj.bias",
        "layers.key": "model.layers.{layer}.self_attn.k_proj.weight",
        "layers.key_bias": "model.layers.{layer}.self_attn.k_proj.bias",
        "layers.value": "model.layers.{layer}.self_attn.v_proj.weight",
        "layers.value_bias": "model.layers.{layer}.self_attn.v_proj.bias",
        "layers.output": "model.layers.{layer}.self_attn.o_proj.weight",
        "layers.output_bias": "model.layers.{layer}.self_attn.o_proj.bias",
        "layers.mlp_norm": "model.layers.{layer}.post_attention_layernorm.weight",
        "layers.gate": "model.layers.{layer}.mlp.gate_proj.weight",
        "layers.gate_bias": "model.layers.{layer}.mlp.gate_proj.bias",
        "layers.up": "model.layers.{layer}.mlp.up_proj.weight",
        "layers.up_bias": "model.layers.{layer}.mlp.up_proj.bias",
        "layers.down": "model.layers.{layer}.mlp.down_proj.weight",
        "layers.down_bias": "model.layers.{layer}.mlp.down_proj.bias",
        "final_norm": "model.norm.weight",
        "head": "lm_head.weight",
        "score": "score.weight",
    }
)

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        # Llama 1-3, SmolLM, SmolLM2, TinyLlama, Yi, DeepSeek-R1-Distill-Llama all call themselves "llama".
        "llama": Family(
            model_type="llama",
            class_prefix="Llama",
            names=_LLAMA_NAMES,
            defaults=MappingProxyType({"max_position_embeddings": 2048}),
            switches=frozenset({"attention_bias", "mlp_bias"}),
        ),
        "mistral": Family(
            model_type="mistral",
            class_prefix="Mistral",
            names=_LLAMA_NAMES,
            defaults=MappingProxyType(
                {"max_position_embeddings": 131_072, "num_key_value_heads": 8, "sliding_window": 4096}
            ),
            switches=frozenset({"sliding_window"}),
        ),
    }
)


def family_of(model_type: str | None) -> Family:
    """Returns the family that config.json calls ``model_type``.

    Raises:
        ConfigError: If no family of that name is known.
    """
    if model_type is None or model_type not in FAMILIES:
        raise ConfigError(
            f"`model_type` is {quoted(model_type)}; the families known are {', '.join(sorted(FAMILIES))}. "
            "A new family is one more row in easydel_models/families.py."
        )
    return FAMILIES[model_type]
