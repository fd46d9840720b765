"""Sizes of published models, at least one a family, as their config.json has them: what a parameter count depends on.

`python tests-integration/published_models.py` prints the table of `docs/families.md`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from easydel_models import DecoderConfig
from easydel_models.layers.attention import Attention
from easydel_models.layers.convolution import ShortConvolution
from easydel_models.layers.delta_net import DeltaNet
from easydel_models.layers.experts import DenseAndExperts, Experts
from easydel_models.layers.gated import Gated
from easydel_models.layers.latent_attention import LatentAttention
from easydel_models.layers.plain import Plain
from easydel_models.parameters import parameter_specs

TIED, UNTIED = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}


def sizes(dim: int, width: int, layers: int, heads: int, kv_heads: int, **others: Any) -> dict[str, Any]:
    """The sizes that most families have, by their names in config.json."""
    return {
        "hidden_size": dim,
        "intermediate_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        **others,
    }


PUBLISHED: dict[str, dict[str, Any]] = {
    "meta-llama/Llama-3.2-1B": {
        "model_type": "llama",
        "vocab_size": 128_256,
        **sizes(2048, 8192, 16, 32, 8, head_dim=64),
        **TIED,
    },
    "mistralai/Mistral-7B-v0.1": {
        "model_type": "mistral",
        "vocab_size": 32_000,
        **sizes(4096, 14_336, 32, 32, 8, sliding_window=4096),
        **UNTIED,
    },
    "mistralai/Ministral-3-8B-Base-2512": {
        "model_type": "ministral3",
        "vocab_size": 131_072,
        **sizes(4096, 14_336, 34, 32, 8, head_dim=128),
        **UNTIED,
    },
    "Qwen/Qwen2.5-0.5B": {
        "model_type": "qwen2",
        "vocab_size": 151_936,
        **sizes(896, 4864, 24, 14, 2),
        **TIED,
    },
    "Qwen/Qwen3-8B": {
        "model_type": "qwen3",
        "vocab_size": 151_936,
        **sizes(4096, 12_288, 36, 32, 8, head_dim=128),
        **UNTIED,
    },
    "google/gemma-2b": {
        "model_type": "gemma",
        "vocab_size": 256_000,
        **sizes(2048, 16_384, 18, 8, 1, head_dim=256),
        **TIED,
    },
    "google/gemma-2-2b": {
        "model_type": "gemma2",
        "vocab_size": 256_000,
        **sizes(2304, 9216, 26, 8, 4, head_dim=256, sliding_window=4096),
        **TIED,
    },
    "google/gemma-3-1b-pt": {
        "model_type": "gemma3_text",
        "vocab_size": 262_144,
        **sizes(1152, 6912, 26, 4, 1, head_dim=256, sliding_window=512),
        **TIED,
    },
    "microsoft/Phi-3-mini-4k-instruct": {
        "model_type": "phi3",
        "vocab_size": 32_064,
        **sizes(3072, 8192, 32, 32, 32, sliding_window=2047, pad_token_id=32_000),
        **UNTIED,
    },
    "allenai/OLMo-2-0425-1B": {
        "model_type": "olmo2",
        "vocab_size": 100_352,
        **sizes(2048, 8192, 16, 16, 16),
        **UNTIED,
    },
    "allenai/Olmo-3-1025-7B": {
        "model_type": "olmo3",
        "vocab_size": 100_278,
        **sizes(4096, 11_008, 32, 32, 32, sliding_window=4096),
        **UNTIED,
    },
    "HuggingFaceTB/SmolLM3-3B": {
        "model_type": "smollm3",
        "vocab_size": 128_256,
        **sizes(2048, 11_008, 36, 16, 4),
        **TIED,
    },
    "ibm-granite/granite-3.3-2b-instruct": {
        "model_type": "granite",
        "vocab_size": 49_159,
        **sizes(2048, 8192, 40, 32, 8),
        **TIED,
    },
    "zai-org/GLM-4-9B-0414": {
        "model_type": "glm4",
        "vocab_size": 151_552,
        **sizes(4096, 13_696, 40, 32, 2, head_dim=128, attention_bias=True, pad_token_id=151_329),
        **UNTIED,
    },
    "CohereLabs/c4ai-command-r7b-12-2024": {
        "model_type": "cohere2",
        "vocab_size": 256_000,
        **sizes(4096, 14_336, 32, 32, 8, head_dim=128, sliding_window=4096),
        **TIED,
    },
    "openai-community/gpt2": {
        "model_type": "gpt2",
        "vocab_size": 50_257,
        "n_embd": 768,
        "n_head": 12,
        "n_layer": 12,
        "n_positions": 1024,
        **TIED,
    },
    "mistralai/Mixtral-8x7B-v0.1": {
        "model_type": "mixtral",
        "vocab_size": 32_000,
        **sizes(4096, 14_336, 32, 32, 8, num_local_experts=8, num_experts_per_tok=2),
        **UNTIED,
    },
    "Qwen/Qwen1.5-MoE-A2.7B": {
        "model_type": "qwen2_moe",
        "vocab_size": 151_936,
        **sizes(2048, 5632, 24, 16, 16, num_experts=60, num_experts_per_tok=4, moe_intermediate_size=1408),
        "shared_expert_intermediate_size": 5632,
        **UNTIED,
    },
    "Qwen/Qwen3-30B-A3B": {
        "model_type": "qwen3_moe",
        "vocab_size": 151_936,
        **sizes(2048, 6144, 48, 32, 4, head_dim=128, num_experts=128, num_experts_per_tok=8),
        "moe_intermediate_size": 768,
        "norm_topk_prob": True,
        **UNTIED,
    },
    "allenai/OLMoE-1B-7B-0924": {
        "model_type": "olmoe",
        "vocab_size": 50_304,
        **sizes(2048, 1024, 16, 16, 16, num_experts=64, num_experts_per_tok=8),
        **UNTIED,
    },
    "openai/gpt-oss-20b": {
        "model_type": "gpt_oss",
        "vocab_size": 201_088,
        **sizes(2880, 2880, 24, 64, 8, head_dim=64, num_local_experts=32, num_experts_per_tok=4, sliding_window=128),
        **UNTIED,
    },
    "deepseek-ai/DeepSeek-V3": {
        "model_type": "deepseek_v3",
        "vocab_size": 129_280,
        **sizes(7168, 18_432, 61, 128, 128, moe_intermediate_size=2048, n_routed_experts=256, n_shared_experts=1),
        "num_experts_per_tok": 8,
        "q_lora_rank": 1536,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "first_k_dense_replace": 3,
        "n_group": 8,
        "topk_group": 4,
        **UNTIED,
    },
    "zai-org/GLM-4.5-Air": {
        "model_type": "glm4_moe",
        "vocab_size": 151_552,
        **sizes(4096, 10_944, 46, 96, 8, head_dim=128, moe_intermediate_size=1408, n_routed_experts=128),
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "first_k_dense_replace": 1,
        "attention_bias": True,
        "partial_rotary_factor": 0.5,
        **UNTIED,
    },
    "zai-org/GLM-4.7-Flash": {
        "model_type": "glm4_moe_lite",
        "vocab_size": 154_880,
        **sizes(2048, 10_240, 47, 20, 20, moe_intermediate_size=1536, n_routed_experts=64, n_shared_experts=1),
        "num_experts_per_tok": 4,
        "q_lora_rank": 768,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 192,
        "qk_rope_head_dim": 64,
        "v_head_dim": 256,
        **UNTIED,
    },
    "Qwen/Qwen3-Next-80B-A3B-Instruct": {
        "model_type": "qwen3_next",
        "vocab_size": 151_936,
        **sizes(2048, 5120, 48, 16, 2, head_dim=256, num_experts=512, num_experts_per_tok=10),
        "moe_intermediate_size": 512,
        "shared_expert_intermediate_size": 512,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 32,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "linear_conv_kernel_dim": 4,
        **UNTIED,
    },
    "LiquidAI/LFM2-1.2B": {
        "model_type": "lfm2",
        "vocab_size": 65_536,
        **sizes(2048, 12_288, 16, 32, 8, block_auto_adjust_ff_dim=True, block_multiple_of=256),
        "block_ffn_dim_multiplier": 1.0,
        "conv_L_cache": 3,
        "full_attn_idxs": [2, 5, 8, 10, 12, 14],
        **TIED,
    },
}
"""By their names on the Hub."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "Qwen3.5-9B": {
        "model_type": "qwen3_5_text",
        "vocab_size": 248_320,
        **sizes(4096, 12_288, 32, 16, 4, head_dim=256),
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 32,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "linear_conv_kernel_dim": 4,
        **UNTIED,
    },
    "Qwen3.5-35B-A3B": {
        "model_type": "qwen3_5_moe_text",
        "vocab_size": 248_320,
        "hidden_size": 2048,
        "num_hidden_layers": 40,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "head_dim": 256,
        "num_experts": 256,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 512,
        "shared_expert_intermediate_size": 512,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 32,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "linear_conv_kernel_dim": 4,
        **UNTIED,
    },
    "Gemma 4": {
        "model_type": "gemma4_text",
        "vocab_size": 262_144,
        **sizes(2304, 9216, 30, 8, 4, head_dim=256, sliding_window=512),
        "global_head_dim": 512,
        "hidden_size_per_layer_input": 256,
        "vocab_size_per_layer_input": 262_144,
        "num_kv_shared_layers": 0,
        **TIED,
    },
}
"""Where no published file was at hand: what transformers' own configuration of the family says without arguments."""


def parameters(config: DecoderConfig) -> int:
    """Numbers that are trained, before anything is allocated."""
    return sum(math.prod(spec.full_shape) for spec in parameter_specs(config).values() if not spec.buffer)


def mixers(config: DecoderConfig) -> str:
    """How tokens see each other, in words."""
    return "; ".join(dict.fromkeys(_mixer(layer.mixer) for layer in config.all_layers))


def feed_forwards(config: DecoderConfig) -> str:
    """What looks at each token by itself, in words."""
    return "; ".join(dict.fromkeys(_feed_forward(layer.feed_forward) for layer in config.all_layers))


def table() -> Iterator[str]:
    """The lines of the table in `docs/families.md`."""
    yield "| `model_type` | model | parameters | layers | mixers | feed-forward |"
    yield "|---|---|--:|--:|---|---|"
    for name, hf in (PUBLISHED | DEFAULTS).items():
        config = DecoderConfig.from_hf(hf)
        shown = name if name in PUBLISHED else f"{name}, by transformers' defaults"
        count = f"{parameters(config):,}"
        cells = (f"`{config.model_type}`", shown, count, str(config.num_layers), mixers(config), feed_forwards(config))
        yield f"| {' | '.join(cells)} |"


def _mixer(mixer: Any) -> str:
    if isinstance(mixer, DeltaNet):
        return f"Gated DeltaNet of {mixer.num_value_heads} heads"
    if isinstance(mixer, ShortConvolution):
        return f"convolution of {mixer.taps} taps"
    if isinstance(mixer, LatentAttention):
        return f"latent attention of {mixer.num_heads} heads"
    assert isinstance(mixer, Attention)
    options = {
        f"window {mixer.window}": mixer.window,
        "norms of heads": mixer.qk_norm == "head",
        "norm of all heads": mixer.qk_norm == "all",
        "biases": mixer.qkv_bias,
        "sinks": mixer.sinks,
        "gate": mixer.gated,
        "soft cap": mixer.softcap,
        "no rope": mixer.rope is None,
    }
    said = [name for name, on in options.items() if on]
    return f"attention {mixer.num_heads}/{mixer.num_kv_heads} of {mixer.head_dim}" + (
        f" ({', '.join(said)})" if said else ""
    )


def _feed_forward(half: Any) -> str:
    if isinstance(half, Experts):
        shared = " and a shared one" if half.shared_width else ""
        return f"{half.router.experts_per_token} of {half.router.num_experts} experts{shared}"
    if isinstance(half, DenseAndExperts):
        return f"gated, beside {half.router.experts_per_token} of {half.router.num_experts} experts"
    assert isinstance(half, Gated | Plain)
    return "gated" if isinstance(half, Gated) else "plain"


if __name__ == "__main__":
    print("\n".join(table()))
