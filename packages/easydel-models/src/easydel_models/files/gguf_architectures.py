"""The architectures of GGUF files that are read: what each one's settings say in the words of a config.json.

What files leave out because llama.cpp knows it is said here, with where it is from. Names of settings and tensors are
those of the `gguf` package (https://github.com/ggml-org/llama.cpp/tree/master/gguf-py).
"""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from easydel_models.errors import ConfigError
from easydel_models.files.gguf_settings import Settings
from easydel_models.layers.rope import RopeConfig, rope_frequencies
from easydel_models.safe_text import quoted

_ROPE_FACTORS = "rope_freqs.weight"
_LONG, _SHORT = "rope_factors_long.weight", "rope_factors_short.weight"
NOT_WEIGHTS = (_ROPE_FACTORS, _LONG, _SHORT)
"""Tensors that are settings."""

_ONE_WIDTH = "heads of other widths are not computed"
_ROPE_EXTRAS = {
    "rope.scaling.yarn_beta_fast": "beta_fast",
    "rope.scaling.yarn_beta_slow": "beta_slow",
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """How files of one architecture say what a Hugging Face folder says otherwise."""

    config: Callable[[Settings], dict[str, Any]]
    """From settings to what config.json has beside the sizes that all have."""
    head_rows: bool = False
    """Whether the rows of query and key lie in pairs that rope turns together, rather than half a head apart."""
    norm_offset: float = 0.0
    """What the converter added to the weight of every norm."""
    experts: Literal["concatenated", "interleaved"] | None = None
    """How the folder holds gate and up of all experts in one tensor, which the file keeps apart; None = no experts."""


def hf_config(settings: Settings, architecture: Architecture) -> dict[str, Any]:
    """Returns the contents that a config.json of the same model would have.

    Raises:
        ConfigError: If a setting is missing, or not computed here.
        WeightsError: If the file has no embedding.
    """
    metadata = settings.file.metadata
    heads, dim = settings.number("attention.head_count"), settings.number("embedding_length")
    head_dim = settings.number("attention.key_length", dim // heads or None)
    settings.expect("attention.value_length", head_dim, f"head_dim, {head_dim}: {_ONE_WIDTH}")
    ids = {key: metadata.get(f"tokenizer.ggml.{key}") for key in (*_STOP_KEYS, "bos_token_id")}
    stops = list(dict.fromkeys(ids[key] for key in _STOP_KEYS if ids[key] is not None))
    config = {
        "vocab_size": settings.tensor("token_embd.weight").shape[0],
        "hidden_size": dim,
        "intermediate_size": settings.number("feed_forward_length"),
        "num_hidden_layers": settings.number("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": settings.number("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "max_position_embeddings": settings.number("context_length"),
        "rms_norm_eps": settings.decimal("attention.layer_norm_rms_epsilon"),
        "tie_word_embeddings": "output.weight" not in settings.file.tensors,
        "bos_token_id": ids["bos_token_id"],
        "eos_token_id": stops[0] if len(stops) == 1 else stops or None,
        "pad_token_id": metadata.get("tokenizer.ggml.padding_token_id"),
    }
    return config | architecture.config(settings)


_STOP_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")


def _llama(settings: Settings) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        **_whole_rope(settings),
        "attention_bias": "blk.0.attn_q.bias" in settings.file.tensors,
        "mlp_bias": "blk.0.ffn_gate.bias" in settings.file.tensors,
    }


def _qwen2(settings: Settings) -> dict[str, Any]:
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_act": "silu",
        **_whole_rope(settings),
    }


def _qwen3(settings: Settings) -> dict[str, Any]:
    return _qwen2(settings) | {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}


def _qwen3_moe(settings: Settings) -> dict[str, Any]:
    return _qwen2(settings) | {
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        "num_experts": settings.number("expert_count"),
        "num_experts_per_tok": settings.number("expert_used_count"),
        "moe_intermediate_size": settings.number("expert_feed_forward_length"),
        "norm_topk_prob": True,  # llama.cpp's qwen3moe always does
    }


def _gemma2(settings: Settings) -> dict[str, Any]:
    return {
        "architectures": ["Gemma2ForCausalLM"],
        "model_type": "gemma2",
        "hidden_activation": "gelu_pytorch_tanh",
        "sliding_window": settings.number("attention.sliding_window"),
        "attn_logit_softcapping": settings.decimal("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": settings.decimal("final_logit_softcapping", 30.0),
        "query_pre_attn_scalar": _query_scalar(settings, layers_of_largest=46),
        **_whole_rope(settings),
    }


def _gemma3(settings: Settings) -> dict[str, Any]:
    return {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "hidden_activation": "gelu_pytorch_tanh",
        "sliding_window": settings.number("attention.sliding_window"),
        "sliding_window_pattern": settings.number("attention.sliding_window_pattern", 6),
        "final_logit_softcapping": settings.optional("final_logit_softcapping"),
        "query_pre_attn_scalar": _query_scalar(settings, layers_of_largest=62),
        "rope_local_base_freq": settings.decimal("rope.freq_base_swa", 10_000.0),
        **_whole_rope(settings, theta=1_000_000.0),
    }


def _phi3(settings: Settings) -> dict[str, Any]:
    head_dim = settings.number("embedding_length") // settings.number("attention.head_count")
    turned = settings.number("rope.dimension_count", head_dim)
    original = settings.optional("rope.scaling.original_context_length")
    return {
        "architectures": ["Phi3ForCausalLM"],
        "model_type": "phi3",
        "head_dim": None,  # the folder's own is always dim / heads
        "hidden_act": "silu",
        "sliding_window": settings.optional("attention.sliding_window"),
        "rope_theta": settings.decimal("rope.freq_base", 10_000.0),
        "rope_scaling": _longrope(settings),
        **({} if turned == head_dim else {"partial_rotary_factor": turned / head_dim}),
        **({} if original is None else {"original_max_position_embeddings": original}),
    }


def _gpt_oss(settings: Settings) -> dict[str, Any]:
    rope = _whole_rope(settings)
    if rope["rope_scaling"] is not None:
        rope["rope_scaling"] |= {"truncate": False}  # as the published configurations say
    return {
        "architectures": ["GptOssForCausalLM"],
        "model_type": "gpt_oss",
        "hidden_act": "silu",
        "intermediate_size": settings.number("expert_feed_forward_length"),
        "num_local_experts": settings.number("expert_count"),
        "num_experts_per_tok": settings.number("expert_used_count"),
        "sliding_window": settings.number("attention.sliding_window"),
        **rope,
    }


ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        "llama": Architecture(config=_llama, head_rows=True),
        "qwen2": Architecture(config=_qwen2),
        "qwen3": Architecture(config=_qwen3),
        "qwen3moe": Architecture(config=_qwen3_moe, experts="concatenated"),
        "gemma2": Architecture(config=_gemma2, norm_offset=1.0),
        "gemma3": Architecture(config=_gemma3, norm_offset=1.0),
        "phi3": Architecture(config=_phi3),
        "gpt-oss": Architecture(config=_gpt_oss, experts="interleaved"),
    }
)
"""By ``general.architecture``. Mistral's files call themselves llama too."""


def _query_scalar(settings: Settings, *, layers_of_largest: int) -> int | float:
    """Files do not say it. Llama.cpp: a head's width, but in the largest model dim / heads."""
    if settings.number("block_count") == layers_of_largest:
        return settings.number("embedding_length") / settings.number("attention.head_count")
    return settings.number("attention.key_length")


def _whole_rope(settings: Settings, *, theta: float = 10_000.0) -> dict[str, Any]:
    """Rope that turns all of a head."""
    dim, heads = settings.number("embedding_length"), settings.number("attention.head_count")
    head_dim = settings.number("attention.key_length", dim // heads or None)
    settings.expect("rope.dimension_count", head_dim, f"head_dim, {head_dim}: {_ONE_WIDTH}")
    theta, kind = settings.decimal("rope.freq_base", theta), settings.text("rope.scaling.type", "none")
    settings.ignored("rope.scaling.finetuned")
    scaling: dict[str, Any] | None
    if _ROPE_FACTORS in settings.file.tensors:
        scaling = _llama3_scaling(settings, theta, head_dim)
    elif kind == "none":
        scaling = None
    elif kind == "linear":
        scaling = {"rope_type": "linear", "factor": settings.decimal("rope.scaling.factor")}
    elif kind == "yarn":
        more = {ours: settings.optional(name) for name, ours in _ROPE_EXTRAS.items()}
        scaling = {
            "rope_type": "yarn",
            "factor": settings.decimal("rope.scaling.factor"),
            "original_max_position_embeddings": settings.number("rope.scaling.original_context_length"),
            **{name: value for name, value in more.items() if value is not None},
        }
    else:
        raise ConfigError(
            f"{settings.file.path} scales rope by {quoted(kind)}; computed are none, linear, yarn and Llama 3's."
        )
    return {"rope_theta": theta, "rope_scaling": scaling}


def _llama3_scaling(settings: Settings, theta: float, head_dim: int) -> dict[str, Any]:
    """Llama 3.1 to 3.3 store what each frequency is divided by; only those models' settings are recognised."""
    stored = settings.tensor(_ROPE_FACTORS).load()
    rope = RopeConfig(theta=theta, kind="llama3", factor=float(stored.max()))
    factors = rope_frequencies(RopeConfig(theta=theta), head_dim) / rope_frequencies(rope, head_dim)
    if stored.shape != factors.shape or not np.allclose(stored, factors, rtol=1e-3):
        raise ConfigError(
            f"{settings.file.path}: the rope factors in {_ROPE_FACTORS} are not those of Llama 3.1 to 3.3."
        )
    return {
        "rope_type": "llama3",
        "factor": rope.factor,
        "low_freq_factor": rope.low_freq_factor,
        "high_freq_factor": rope.high_freq_factor,
        "original_max_position_embeddings": rope.original_max_positions,
    }


def _longrope(settings: Settings) -> dict[str, Any] | None:
    settings.ignored("rope.scaling.type")  # the factors say it
    magnitude = settings.optional("rope.scaling.attn_factor")
    if _LONG not in settings.file.tensors:
        return None
    long, short = ([float(str(one)) for one in settings.tensor(name).load()] for name in (_LONG, _SHORT))
    given = {} if magnitude is None else {"attention_factor": magnitude}
    return {"rope_type": "longrope", "long_factor": long, "short_factor": short, **given}
