"""Qwen3-Next and Qwen3.5: three layers of the gated delta net to one of gated attention, norms stored from 1."""

from types import MappingProxyType
from typing import Any

from easydel_models.families.family import Family
from easydel_models.families.fused import ByHead, Taps
from easydel_models.families.keys import Keys
from easydel_models.families.layer_types import FULL, layer_types
from easydel_models.families.llama import LLAMA_TENSORS
from easydel_models.families.moe import QWEN_MOE_TENSORS, qwen_experts, router_loss, sparse_layers
from easydel_models.families.qwen import gated
from easydel_models.families.ropes import rope_of
from easydel_models.families.stored import Fused, Stored, Whole
from easydel_models.layers.attention import Attention
from easydel_models.layers.delta_net import DeltaNet
from easydel_models.layers.feed_forward import FeedForward
from easydel_models.layers.layer import LayerConfig
from easydel_models.layers.norms import NormConfig

LINEAR = "linear_attention"
_DELTA = "model.layers.{layer}.linear_attn"
_OF_DELTA: tuple[Stored, ...] = (
    Taps(("delta_query_convolution", "delta_key_convolution", "delta_value_convolution"), f"{_DELTA}.conv1d.weight"),
    Whole("decay_offset", f"{_DELTA}.dt_bias"),
    Whole("decay_rate", f"{_DELTA}.A_log"),
    Whole("delta_norm", f"{_DELTA}.norm.weight"),
    Whole("delta_output", f"{_DELTA}.out_proj.weight"),
)
_NEXT: tuple[Stored, ...] = (
    ByHead(("delta_query", "delta_key", "delta_value", "delta_gate"), f"{_DELTA}.in_proj_qkvz.weight"),
    ByHead(("delta_write", "delta_decay"), f"{_DELTA}.in_proj_ba.weight"),
)
_3_5: tuple[Stored, ...] = (
    Fused(("delta_query", "delta_key", "delta_value"), f"{_DELTA}.in_proj_qkv.weight"),
    Whole("delta_gate", f"{_DELTA}.in_proj_z.weight"),
    Whole("delta_write", f"{_DELTA}.in_proj_b.weight"),
    Whole("delta_decay", f"{_DELTA}.in_proj_a.weight"),
)


def _layers(keys: Keys, halves: list[FeedForward]) -> dict[str, Any]:
    keys.off("attention_dropout")
    keys.ignored("attn_output_gate", "mamba_ssm_dtype", "mtp_num_hidden_layers", "mtp_use_dedicated_embeddings")
    heads, head_dim, taps = keys.sizes("num_attention_heads", "head_dim", "linear_conv_kernel_dim")
    key_heads, value_heads, key_dim, value_dim = keys.sizes(
        "linear_num_key_heads", "linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim"
    )
    bias = keys("attention_bias", False)
    attention = Attention(
        num_heads=heads,
        num_kv_heads=keys("num_key_value_heads", heads),
        head_dim=head_dim,
        rope=rope_of(keys, fraction=0.25),
        qkv_bias=bias,
        output_bias=bias,
        qk_norm="head",
        gated=True,
    )
    delta = DeltaNet(
        num_key_heads=key_heads, num_value_heads=value_heads, key_dim=key_dim, value_dim=value_dim, taps=taps
    )
    interval = keys("full_attention_interval", 4)
    types = layer_types(keys, lambda number: LINEAR if (number + 1) % interval else FULL, (FULL, LINEAR))
    pairs = zip(types, halves, strict=True)
    return {
        "norm": NormConfig(eps=keys("rms_norm_eps", 1e-6), offset=1.0),
        "layers": tuple(
            LayerConfig(mixer=attention if kind == FULL else delta, feed_forward=half) for kind, half in pairs
        ),
    }


def _next(keys: Keys) -> dict[str, Any]:
    experts = qwen_experts(keys, normalize=keys("norm_topk_prob", True), shared=True)
    return _layers(keys, sparse_layers(keys, experts)) | router_loss(keys)


def _dense(keys: Keys) -> dict[str, Any]:
    keys.ignored("mlp_only_layers")
    half = gated(keys)
    return _layers(keys, [half] * keys("num_hidden_layers"))


def _moe(keys: Keys) -> dict[str, Any]:
    keys.ignored("intermediate_size", "mlp_only_layers", "decoder_sparse_step")
    half = qwen_experts(keys, normalize=True, shared=True)
    return _layers(keys, [half] * keys("num_hidden_layers")) | router_loss(keys)


_COMMON = {
    "head_dim": 256,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32_768,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512,
}
# Predicting a token further is in files only.
_FURTHER = (r"mtp\..*", r"model\.mtp\..*")
QWEN3_NEXT = Family(
    model_type="qwen3_next",
    class_prefix="Qwen3Next",
    read=_next,
    tensors=(*QWEN_MOE_TENSORS, *_NEXT, *_OF_DELTA),
    defaults=MappingProxyType(_COMMON | {"num_experts": 512, "num_experts_per_tok": 10}),
    redundant=_FURTHER,
)
QWEN3_5_TEXT = Family(
    model_type="qwen3_5_text",
    class_prefix="Qwen3_5",
    read=_dense,
    tensors=(*LLAMA_TENSORS, *_3_5, *_OF_DELTA),
    defaults=MappingProxyType(_COMMON | {"num_key_value_heads": 4}),
    redundant=_FURTHER,
)
QWEN3_5_MOE_TEXT = Family(
    model_type="qwen3_5_moe_text",
    class_prefix="Qwen3_5Moe",
    read=_moe,
    tensors=(*QWEN_MOE_TENSORS, *_3_5, *_OF_DELTA),
    defaults=MappingProxyType(_COMMON | {"num_experts": 256, "num_experts_per_tok": 8}),
    redundant=_FURTHER,
)
