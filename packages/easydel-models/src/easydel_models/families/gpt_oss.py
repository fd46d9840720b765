"""gpt-oss: experts with biases and a clamped gate, attention with sinks, every second layer through a window."""

from types import MappingProxyType
from typing import Any

from easydel_models.experts.routing import RouterConfig
from easydel_models.families.family import Family
from easydel_models.families.fused import AllExperts
from easydel_models.families.keys import Keys
from easydel_models.families.layer_types import FULL, SLIDING, layer_types
from easydel_models.families.llama import LLAMA_TENSORS
from easydel_models.families.moe import number_of_experts, router_loss
from easydel_models.families.ropes import rope_of
from easydel_models.families.stored import Whole
from easydel_models.layers.attention import Attention
from easydel_models.layers.experts import Experts
from easydel_models.layers.layer import LayerConfig

_EXPERTS = "model.layers.{layer}.mlp.experts"


def _read(keys: Keys) -> dict[str, Any]:
    keys.off("attention_dropout")
    keys.expect_within("quantization_config", quant_method="mxfp4")  # the tensors say all else
    keys.expect("swiglu_alpha", 1.702)
    keys.ignored("experts_per_token", "initial_context_length")  # said again by other keys
    keys.activation("hidden_act")  # the gate is the family's own; the key has to be one that is known
    heads, head_dim, width, chosen = keys.sizes(
        "num_attention_heads", "head_dim", "intermediate_size", "num_experts_per_tok"
    )
    bias = keys("attention_bias", True)
    mixers = {
        kind: Attention(
            num_heads=heads,
            num_kv_heads=keys("num_key_value_heads", heads),
            head_dim=head_dim,
            rope=rope_of(keys, theta=150_000.0),
            window=keys("sliding_window") if kind == SLIDING else None,
            qkv_bias=bias,
            output_bias=bias,
            sinks=True,
        )
        for kind in (FULL, SLIDING)
    }
    router = RouterConfig(num_experts=number_of_experts(keys), experts_per_token=chosen, scores="softmax_of_chosen")
    experts = Experts(router=router, width=width, clamp=float(keys("swiglu_limit", 7.0)), bias=True)
    types = layer_types(keys, lambda number: FULL if number % 2 else SLIDING)
    layers = tuple(LayerConfig(mixer=mixers[kind], feed_forward=experts) for kind in types)
    return {"layers": layers, **router_loss(keys)}


GPT_OSS = Family(
    model_type="gpt_oss",
    class_prefix="GptOss",
    read=_read,
    tensors=(
        *LLAMA_TENSORS,
        Whole("sinks", "model.layers.{layer}.self_attn.sinks"),
        Whole("router", "model.layers.{layer}.mlp.router.weight", linear=False),
        Whole("router_bias", "model.layers.{layer}.mlp.router.bias"),
        AllExperts(("expert_gate", "expert_up"), f"{_EXPERTS}.gate_up_proj", as_is=True, interleaved=True),
        AllExperts(("expert_gate_bias", "expert_up_bias"), f"{_EXPERTS}.gate_up_proj_bias", interleaved=True),
        AllExperts(("expert_down",), f"{_EXPERTS}.down_proj", as_is=True),
        AllExperts(("expert_down_bias",), f"{_EXPERTS}.down_proj_bias"),
    ),
    defaults=MappingProxyType(
        {
            "num_key_value_heads": 8,
            "head_dim": 64,
            "num_experts_per_tok": 4,
            "num_local_experts": 128,
            "sliding_window": 128,
            "max_position_embeddings": 131_072,
        }
    ),
)
