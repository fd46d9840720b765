"""DeepSeek-V3, GLM-4.5 and GLM-4.7-Flash: sigmoid routers with a selection bias, a few dense layers first."""

import re
from types import MappingProxyType
from typing import Any

from easydel_models.errors import ConfigError
from easydel_models.experts.routing import RouterConfig
from easydel_models.families.family import Family
from easydel_models.families.fused import ByHead
from easydel_models.families.keys import Keys
from easydel_models.families.layer_types import layer_count
from easydel_models.families.llama import LLAMA_TENSORS
from easydel_models.families.moe import PROJECTIONS, expert_tensors, number_of_experts
from easydel_models.families.qwen import gated
from easydel_models.families.ropes import rope_of, yarn_magnitude
from easydel_models.families.stored import Fused, Stored, Whole
from easydel_models.layers.attention import Attention
from easydel_models.layers.experts import Experts
from easydel_models.layers.latent_attention import LatentAttention
from easydel_models.layers.layer import LayerConfig
from easydel_models.layers.mixer import Mixer
from easydel_models.safe_text import quoted

_MLP, _ATTENTION = "model.layers.{layer}.mlp", "model.layers.{layer}.self_attn"
EXPERTS: tuple[Stored, ...] = (
    Whole("router", f"{_MLP}.gate.weight", linear=False),
    Whole("selection_bias", f"{_MLP}.gate.e_score_correction_bias"),
    *expert_tensors(_MLP, **PROJECTIONS),
    *(Whole(f"shared_{ours}", f"{_MLP}.shared_experts.{theirs}.weight") for ours, theirs in PROJECTIONS.items()),
)
LATENT_ATTENTION: tuple[Stored, ...] = (
    Whole("query_down", f"{_ATTENTION}.q_a_proj.weight"),
    Whole("query_down_bias", f"{_ATTENTION}.q_a_proj.bias"),
    Whole("query_latent_norm", f"{_ATTENTION}.q_a_layernorm.weight"),
    Whole("query_up", f"{_ATTENTION}.q_b_proj.weight"),
    Fused(("latent_down", "rope_key"), f"{_ATTENTION}.kv_a_proj_with_mqa.weight"),
    Fused(("latent_down_bias", "rope_key_bias"), f"{_ATTENTION}.kv_a_proj_with_mqa.bias"),
    Whole("latent_norm", f"{_ATTENTION}.kv_a_layernorm.weight"),
    ByHead(("key_up", "value_up"), f"{_ATTENTION}.kv_b_proj.weight"),
)


def _experts(keys: Keys) -> Experts:
    chosen, width = keys.sizes("num_experts_per_tok", "moe_intermediate_size")
    router = RouterConfig(
        num_experts=number_of_experts(keys),
        experts_per_token=chosen,
        scores="sigmoid",
        normalize=keys("norm_topk_prob", True),
        epsilon=1e-20,
        scale=float(keys("routed_scaling_factor", 1.0)),
        groups=keys("n_group", 1),
        groups_per_token=keys("topk_group", 1),
    )
    keys.expect("scoring_func", "sigmoid")
    keys.expect("topk_method", "noaux_tc")
    keys.expect("moe_layer_freq", 1)
    # The layer that predicts a token further is in files only, and its losses were those of the first training.
    keys.ignored("num_nextn_predict_layers", "output_router_logits", "aux_loss_alpha", "seq_aux", "ep_size")
    return Experts(
        router=router,
        width=width,
        activation=keys.activation("hidden_act"),
        selection_bias=True,
        shared_width=width * keys("n_shared_experts", 1),
    )


def _layers(keys: Keys, mixer: Mixer, dense_first: int) -> dict[str, Any]:
    experts, dense, count = _experts(keys), gated(keys), layer_count(keys)
    kinds = keys("mlp_layer_types")
    kinds = ["dense" if number < dense_first else "sparse" for number in range(count)] if kinds is None else kinds
    if len(kinds) != count or not set(kinds) <= {"dense", "sparse"}:
        raise ConfigError(f"`mlp_layer_types` is {quoted(kinds)}; expected {count} words out of dense, sparse.")
    halves = {"dense": dense, "sparse": experts}
    return {"layers": tuple(LayerConfig(mixer=mixer, feed_forward=halves[kind]) for kind in kinds)}


def _latent_attention(keys: Keys) -> LatentAttention:
    heads, key, rope, value, latent = keys.sizes(
        "num_attention_heads", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "kv_lora_rank"
    )
    keys.off("attention_dropout")
    keys.ignored("num_key_value_heads", "head_dim", "qk_head_dim")  # all follow from the widths above
    scaling = keys("rope_parameters") or keys("rope_scaling") or {}
    named, all_dims = scaling.get("rope_type", scaling.get("type", "default")), scaling.get("mscale_all_dim")
    scale = (key + rope) ** -0.5
    if named != "default" and all_dims:
        scale *= yarn_magnitude(scaling.get("factor"), all_dims) ** 2
    return LatentAttention(
        num_heads=heads,
        key_dim=key,
        rope_dim=rope,
        value_dim=value,
        latent_dim=latent,
        query_latent_dim=keys("q_lora_rank"),
        # Turning pairs 2i and 2i + 1, and turning i and i + half of what was sorted first, give the same products.
        rope=rope_of(keys, interleaved=keys("rope_interleave", True)),
        scale=scale,
        bias=keys("attention_bias", False),
    )


def _deepseek(keys: Keys) -> dict[str, Any]:
    return _layers(keys, _latent_attention(keys), keys("first_k_dense_replace", 3))


def _glm4_moe_lite(keys: Keys) -> dict[str, Any]:
    return _layers(keys, _latent_attention(keys), keys("first_k_dense_replace", 1))


def _glm4_moe(keys: Keys) -> dict[str, Any]:
    keys.off("attention_dropout")
    dim, heads = keys.sizes("hidden_size", "num_attention_heads")
    mixer = Attention(
        num_heads=heads,
        num_kv_heads=keys("num_key_value_heads", heads),
        head_dim=keys("head_dim") or dim // heads,
        rope=rope_of(keys, fraction=0.5),
        qkv_bias=keys("attention_bias", False),
        qk_norm="head" if keys("use_qk_norm", False) else None,
    )
    return _layers(keys, mixer, keys("first_k_dense_replace", 1))


_FURTHER = (re.escape("model.layers.") + r"\d+\.(eh_proj|enorm|hnorm|shared_head|embed_tokens)\..*",)
_COMMON = {"num_experts_per_tok": 8, "moe_intermediate_size": 1408, "max_position_embeddings": 131_072}
DEEPSEEK_V3 = Family(
    model_type="deepseek_v3",
    class_prefix="DeepseekV3",
    read=_deepseek,
    tensors=(*LLAMA_TENSORS, *LATENT_ATTENTION, *EXPERTS),
    defaults=MappingProxyType(
        _COMMON
        | {
            "moe_intermediate_size": 2048,
            "max_position_embeddings": 4096,
            "n_group": 8,
            "topk_group": 4,
            "n_routed_experts": 256,
            "routed_scaling_factor": 2.5,
            "kv_lora_rank": 512,
            "q_lora_rank": 1536,
            "qk_rope_head_dim": 64,
            "qk_nope_head_dim": 128,
            "v_head_dim": 128,
        }
    ),
    redundant=_FURTHER,
)
GLM4_MOE_LITE = Family(
    model_type="glm4_moe_lite",
    class_prefix="Glm4MoeLite",
    read=_glm4_moe_lite,
    tensors=(*LLAMA_TENSORS, *LATENT_ATTENTION, *EXPERTS),
    defaults=MappingProxyType(
        _COMMON
        | {
            "moe_intermediate_size": 1536,
            "max_position_embeddings": 202_752,
            "n_routed_experts": 64,
            "num_experts_per_tok": 4,
            "routed_scaling_factor": 1.8,
            "kv_lora_rank": 512,
            "q_lora_rank": 768,
            "qk_rope_head_dim": 64,
            "qk_nope_head_dim": 192,
            "v_head_dim": 256,
        }
    ),
    redundant=_FURTHER,
)
GLM4_MOE = Family(
    model_type="glm4_moe",
    class_prefix="Glm4Moe",
    read=_glm4_moe,
    tensors=(*LLAMA_TENSORS, *EXPERTS),
    defaults=MappingProxyType(_COMMON | {"n_routed_experts": 128, "num_key_value_heads": 8}),
    redundant=_FURTHER,
)
