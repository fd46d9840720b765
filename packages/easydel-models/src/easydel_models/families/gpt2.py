"""GPT-2: learned positions, layer norms with biases, a plain feed-forward, kernels stored as [in, out]."""

from types import MappingProxyType
from typing import Any

from easydel_models.families.family import Family
from easydel_models.families.keys import Keys
from easydel_models.families.layer_types import layer_count
from easydel_models.families.stored import Fused, Stored, Whole
from easydel_models.layers.attention import Attention
from easydel_models.layers.layer import LayerConfig
from easydel_models.layers.norms import NormConfig
from easydel_models.layers.plain import Plain


def _read(keys: Keys) -> dict[str, Any]:
    keys.off("resid_pdrop", "embd_pdrop", "attn_pdrop", "add_cross_attention", "scale_attn_by_inverse_layer_idx")
    keys.ignored("reorder_and_upcast_attn", "n_ctx", "gradient_checkpointing")  # how it is computed, or no more used
    keys.ignored("summary_type", "summary_use_proj", "summary_activation", "summary_first_dropout")
    keys.ignored("summary_proj_to_labels")
    keys.expect("scale_attn_weights", True)
    dim, heads = keys.sizes("hidden_size", "num_attention_heads")
    layer = LayerConfig(
        mixer=Attention(
            num_heads=heads, num_kv_heads=heads, head_dim=dim // heads, rope=None, qkv_bias=True, output_bias=True
        ),
        feed_forward=Plain(
            width=keys("n_inner", 4 * dim), activation=keys.activation("activation_function", default="gelu_new")
        ),
    )
    return {
        "layers": (layer,) * layer_count(keys),
        "norm": NormConfig(kind="layer", eps=keys("layer_norm_epsilon", 1e-5), bias=True),
        "learned_positions": True,
    }


def _linear(parameter: str, module: str) -> tuple[Stored, ...]:
    return Whole(parameter, f"{module}.weight", as_is=True), Whole(f"{parameter}_bias", f"{module}.bias")


def _norm(parameter: str, module: str) -> tuple[Stored, ...]:
    return Whole(parameter, f"{module}.weight"), Whole(f"{parameter}_bias", f"{module}.bias")


_BLOCK = "transformer.h.{layer}"
GPT2 = Family(
    model_type="gpt2",
    class_prefix="GPT2",
    head_class="LMHeadModel",
    read=_read,
    tensors=(
        Whole("embedding", "transformer.wte.weight"),
        Whole("position_embedding", "transformer.wpe.weight"),
        *_norm("attention_norm", f"{_BLOCK}.ln_1"),
        Fused(("query", "key", "value"), f"{_BLOCK}.attn.c_attn.weight", as_is=True),
        Fused(("query_bias", "key_bias", "value_bias"), f"{_BLOCK}.attn.c_attn.bias"),
        *_linear("output", f"{_BLOCK}.attn.c_proj"),
        *_norm("mlp_norm", f"{_BLOCK}.ln_2"),
        *_linear("up", f"{_BLOCK}.mlp.c_fc"),
        *_linear("down", f"{_BLOCK}.mlp.c_proj"),
        *_norm("final_norm", "transformer.ln_f"),
        Whole("head", "lm_head.weight"),
        Whole("score", "score.weight"),
    ),
    # The Hub's first files have the names without their prefix, and keep masks beside the weights.
    spellings=(("transformer.", ""),),
    redundant=(r".*\.attn\.bias", r".*\.attn\.masked_bias"),
    aliases=MappingProxyType(
        {
            "hidden_size": "n_embd",
            "num_hidden_layers": "n_layer",
            "num_attention_heads": "n_head",
            "max_position_embeddings": "n_positions",
        }
    ),
    defaults=MappingProxyType({"max_position_embeddings": 1024, "tie_word_embeddings": True}),
)
