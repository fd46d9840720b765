"""Mixtral, Qwen2-MoE, Qwen3-MoE and OLMoE: Llama-like layers whose feed-forward is experts."""

from types import MappingProxyType
from typing import Any

from easydel_models.errors import ConfigError
from easydel_models.experts.routing import RouterConfig
from easydel_models.families.family import Family
from easydel_models.families.fused import AllExperts, PerExpert
from easydel_models.families.keys import Keys
from easydel_models.families.layer_types import layer_count
from easydel_models.families.llama import LLAMA_TENSORS
from easydel_models.families.qwen import gated, qwen2_attention, qwen3_attention, windows
from easydel_models.families.ropes import rope_of
from easydel_models.families.stored import Stored, Whole
from easydel_models.layers.attention import Attention
from easydel_models.layers.experts import Experts
from easydel_models.layers.feed_forward import FeedForward
from easydel_models.layers.layer import LayerConfig
from easydel_models.safe_text import quoted

_OF_LAYER = "model.layers.{layer}.mlp"


def expert_tensors(module: str, *, gate: str, up: str, down: str, held_in: str | None = None) -> tuple[Stored, ...]:
    """Returns the experts of a layer as most files have them, and as transformers 5 holds them.

    Args:
        module: The name under which they lie.
        gate: What the projection is called in one expert; so are ``up`` and ``down``.
        up: See ``gate``.
        down: See ``gate``.
        held_in: The name under which transformers holds them; None = the same.
    """
    held_in = held_in or module
    names = {"expert_gate": gate, "expert_up": up, "expert_down": down}
    return (
        *(PerExpert(ours, f"{module}.experts.{{expert}}.{theirs}.weight") for ours, theirs in names.items()),
        AllExperts(("expert_gate", "expert_up"), f"{held_in}.experts.gate_up_proj"),
        AllExperts(("expert_down",), f"{held_in}.experts.down_proj"),
    )


PROJECTIONS = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}
"""What most families call an expert's projections."""

SHARED_EXPERT: tuple[Stored, ...] = (
    *(Whole(f"shared_{ours}", f"{_OF_LAYER}.shared_expert.{theirs}.weight") for ours, theirs in PROJECTIONS.items()),
    Whole("shared_share", f"{_OF_LAYER}.shared_expert_gate.weight"),
)
"""The expert that all tokens of a Qwen model share."""

QWEN_MOE_TENSORS: tuple[Stored, ...] = (
    *LLAMA_TENSORS,
    Whole("router", f"{_OF_LAYER}.gate.weight", linear=False),
    *expert_tensors(_OF_LAYER, **PROJECTIONS),
    *SHARED_EXPERT,
)


def number_of_experts(keys: Keys) -> int:
    """Returns the number of experts, which files call by one of three names.

    Raises:
        ConfigError: If the file has none of them.
    """
    found = [value for name in ("num_experts", "num_local_experts", "n_routed_experts") if (value := keys(name))]
    if not found:
        raise ConfigError("config.json lacks num_experts (or num_local_experts, n_routed_experts).")
    return found[0]


def router_loss(keys: Keys) -> dict[str, Any]:
    """Returns what training multiplies the load-balancing loss by: as in transformers, 0 unless router logits are asked
    for.
    """
    asked, coefficient = keys("output_router_logits", False), keys("router_aux_loss_coef", 0.001)
    return {"router_loss": float(coefficient) if asked else 0.0}


def qwen_experts(keys: Keys, *, normalize: bool, shared: bool) -> Experts:
    """Returns the experts of a Qwen layer.

    Args:
        keys: Of config.json.
        normalize: Whether the weights of the chosen experts are divided by their sum.
        shared: Whether there is one that all tokens share, behind a sigmoid.
    """
    chosen, width = keys.sizes("num_experts_per_tok", "moe_intermediate_size")
    router = RouterConfig(num_experts=number_of_experts(keys), experts_per_token=chosen, normalize=normalize)
    return Experts(
        router=router,
        width=width,
        activation=keys.activation("hidden_act"),
        shared_width=keys("shared_expert_intermediate_size") if shared else 0,
        shared_share=shared,
    )


def sparse_layers(keys: Keys, experts: Experts) -> list[FeedForward]:
    """Returns each layer's feed-forward: experts in each ``decoder_sparse_step``-th, unless ``mlp_only_layers`` has it.

    Raises:
        ConfigError: If the step is no number of layers.
    """
    step, dense = keys("decoder_sparse_step", 1), set(keys("mlp_only_layers", []))
    if not isinstance(step, int) or step < 1:
        raise ConfigError(f"`decoder_sparse_step` is {quoted(step)}; expected a whole number from 1 on.")
    plain = gated(keys)
    return [plain if number in dense or (number + 1) % step else experts for number in range(layer_count(keys))]


def _mixtral(keys: Keys) -> dict[str, Any]:
    keys.off("attention_dropout", "router_jitter_noise")
    dim, heads, width = keys.sizes("hidden_size", "num_attention_heads", "intermediate_size")
    experts, chosen = keys.sizes("num_local_experts", "num_experts_per_tok")
    layer = LayerConfig(
        mixer=Attention(
            num_heads=heads,
            num_kv_heads=keys("num_key_value_heads", heads),
            head_dim=keys("head_dim") or dim // heads,
            rope=rope_of(keys, theta=1_000_000.0),
            window=keys("sliding_window"),
        ),
        feed_forward=Experts(
            router=RouterConfig(num_experts=experts, experts_per_token=chosen, normalize=True),
            width=width,
            activation=keys.activation("hidden_act"),
        ),
    )
    return {"layers": (layer,) * layer_count(keys), **router_loss(keys)}


def _olmoe(keys: Keys) -> dict[str, Any]:
    keys.off("attention_dropout", "clip_qkv")
    dim, heads, width, chosen = keys.sizes(
        "hidden_size", "num_attention_heads", "intermediate_size", "num_experts_per_tok"
    )
    bias = keys("attention_bias", False)
    router = RouterConfig(
        num_experts=number_of_experts(keys), experts_per_token=chosen, normalize=keys("norm_topk_prob", False)
    )
    layer = LayerConfig(
        mixer=Attention(
            num_heads=heads,
            num_kv_heads=keys("num_key_value_heads", heads),
            head_dim=dim // heads,
            rope=rope_of(keys),
            qkv_bias=bias,
            output_bias=bias,
            qk_norm="all",
        ),
        feed_forward=Experts(router=router, width=width, activation=keys.activation("hidden_act")),
    )
    return {"layers": (layer,) * layer_count(keys), **router_loss(keys)}


def _qwen2_moe(keys: Keys) -> dict[str, Any]:
    keys.off("attention_dropout")
    experts = qwen_experts(keys, normalize=keys("norm_topk_prob", False), shared=True)
    mixers = (qwen2_attention(keys, window) for window in windows(keys))
    layers = zip(mixers, sparse_layers(keys, experts), strict=True)
    return {
        "layers": tuple(LayerConfig(mixer=mixer, feed_forward=half) for mixer, half in layers),
        **router_loss(keys),
    }


def _qwen3_moe(keys: Keys) -> dict[str, Any]:
    keys.off("attention_dropout")
    experts = qwen_experts(keys, normalize=keys("norm_topk_prob", False), shared=False)
    keys.ignored("max_window_layers")
    window, used = keys("sliding_window"), keys("use_sliding_window", False)
    mixer = qwen3_attention(keys, window if used else None)
    layers = tuple(LayerConfig(mixer=mixer, feed_forward=half) for half in sparse_layers(keys, experts))
    return {"layers": layers, **router_loss(keys)}


_OF_MIXTRAL = "model.layers.{layer}.block_sparse_moe"
MIXTRAL = Family(
    model_type="mixtral",
    class_prefix="Mixtral",
    read=_mixtral,
    tensors=(
        *LLAMA_TENSORS,
        Whole("router", f"{_OF_MIXTRAL}.gate.weight", linear=False),
        Whole("router", f"{_OF_LAYER}.gate.weight", linear=False),
        *expert_tensors(_OF_MIXTRAL, gate="w1", up="w3", down="w2", held_in=_OF_LAYER),
    ),
    defaults=MappingProxyType(
        {
            "max_position_embeddings": 131_072,
            "num_key_value_heads": 8,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
        }
    ),
)
OLMOE = Family(
    model_type="olmoe",
    class_prefix="Olmoe",
    read=_olmoe,
    tensors=QWEN_MOE_TENSORS,
    defaults=MappingProxyType({"max_position_embeddings": 4096, "num_experts": 64, "num_experts_per_tok": 8}),
)
QWEN2_MOE = Family(
    model_type="qwen2_moe",
    class_prefix="Qwen2Moe",
    read=_qwen2_moe,
    tensors=QWEN_MOE_TENSORS,
    defaults=MappingProxyType(
        {
            "max_position_embeddings": 32_768,
            "num_key_value_heads": 16,
            "sliding_window": 4096,
            "num_experts": 60,
            "num_experts_per_tok": 4,
            "moe_intermediate_size": 1408,
            "shared_expert_intermediate_size": 5632,
        }
    ),
)
QWEN3_MOE = Family(
    model_type="qwen3_moe",
    class_prefix="Qwen3Moe",
    read=_qwen3_moe,
    tensors=QWEN_MOE_TENSORS,
    defaults=MappingProxyType(
        {
            "max_position_embeddings": 32_768,
            "num_key_value_heads": 4,
            "head_dim": 128,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 768,
        }
    ),
)
