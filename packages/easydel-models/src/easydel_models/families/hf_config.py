"""config.json in both directions: every key is taken over, known to be harmless, or refused."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from easydel_models.config import Activation, DecoderConfig
from easydel_models.config_values import check_values
from easydel_models.errors import ConfigError
from easydel_models.families import Family, family_of
from easydel_models.layers.rope import RopeConfig
from easydel_models.shown import quoted

ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
}

_SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
_READ = frozenset(_SIZES) | {
    "model_type",
    "hidden_act",
    "head_dim",
    "num_key_value_heads",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "tie_word_embeddings",
    "initializer_range",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "num_labels",
    "architectures",
}
# Keys that describe files, training or output formatting, not the function from tokens to logits.
_HARMLESS = frozenset(
    {
        "_name_or_path",
        "auto_map",
        "chunk_size_feed_forward",
        "dtype",
        "finetuning_task",
        "id2label",
        "is_llama_config",
        "label2id",
        "language",
        "max_length",
        "name_or_path",
        "output_attentions",
        "output_hidden_states",
        "pretraining_tp",  # splits the same matrix products, from an older transformers
        "problem_type",
        "return_dict",
        "rope_interleaved",  # SmolLM writes false; true is refused below
        "task_specific_params",
        "tokenizer_class",
        "torch_dtype",
        "transformers.js_config",
        "transformers_version",
        "unsloth_fixed",
        "unsloth_version",
        "use_cache",
    }
)
_MUST_BE_OFF = frozenset({"attention_dropout", "rope_interleaved"})
_CLASSIFIER = "ForSequenceClassification"


def config_from_hf(hf: Mapping[str, Any]) -> DecoderConfig:
    """Returns the configuration that config.json contents ``hf`` describe.

    Raises:
        ConfigError: If a size is missing or a key is set that this decoder does not compute.
    """
    check_values(hf)
    family = family_of(hf.get("model_type"))
    _refuse_unknown(hf, family)
    values = {**family.defaults, **hf}
    missing = [key for key in _SIZES if values.get(key) is None]
    if missing:
        raise ConfigError(f"config.json lacks {', '.join(missing)}; every model needs: {', '.join(_SIZES)}.")
    heads = values["num_attention_heads"]
    return DecoderConfig(
        model_type=family.model_type,
        vocab_size=values["vocab_size"],
        dim=values["hidden_size"],
        num_layers=values["num_hidden_layers"],
        num_heads=heads,
        num_kv_heads=values.get("num_key_value_heads") or heads,
        head_dim=values.get("head_dim") or 0,
        mlp_dim=values["intermediate_size"],
        max_positions=values["max_position_embeddings"],
        activation=_activation(values.get("hidden_act", "silu")),
        norm_eps=values.get("rms_norm_eps", 1e-6),
        rope=_rope(values),
        attention_bias=values.get("attention_bias", False),
        mlp_bias=values.get("mlp_bias", False),
        sliding_window=values.get("sliding_window"),
        tie_embeddings=values.get("tie_word_embeddings", False),
        num_labels=_num_labels(hf),
        initializer_range=values.get("initializer_range", 0.02),
        bos_token_id=values.get("bos_token_id"),
        eos_token_ids=token_ids(values.get("eos_token_id")),
        pad_token_id=values.get("pad_token_id"),
    )


def hf_from_config(config: DecoderConfig, dtype: str) -> dict[str, Any]:
    """Returns the config.json contents for ``config``, in the spelling of transformers 4 and 5 both."""
    family = family_of(config.model_type)
    reverse = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
    switches = {
        "attention_bias": config.attention_bias,
        "mlp_bias": config.mlp_bias,
        "sliding_window": config.sliding_window,
    }
    hf: dict[str, Any] = {
        "architectures": [family.class_prefix + ("ForCausalLM" if config.num_labels is None else _CLASSIFIER)],
        "model_type": config.model_type,
        "vocab_size": config.vocab_size,
        "hidden_size": config.dim,
        "intermediate_size": config.mlp_dim,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_positions,
        "hidden_act": reverse[config.activation],
        "rms_norm_eps": config.norm_eps,
        **_rope_keys(config.rope),
        **{key: switches[key] for key in sorted(family.switches)},
        "attention_dropout": 0.0,
        "tie_word_embeddings": config.tie_embeddings,
        "initializer_range": config.initializer_range,
        "use_cache": True,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": one_or_list(config.eos_token_ids),
        "pad_token_id": config.pad_token_id,
        "dtype": dtype,
    }
    if config.num_labels is not None:
        labels = [f"LABEL_{index}" for index in range(config.num_labels)]
        hf["id2label"] = {str(index): label for index, label in enumerate(labels)}
        hf["label2id"] = {label: index for index, label in enumerate(labels)}
    return hf


def token_ids(value: int | list[int] | None) -> tuple[int, ...]:
    """Returns the ids of a key that may hold one id, several, or null."""
    if value is None:
        return ()
    return (value,) if isinstance(value, int) else tuple(value)


def one_or_list(ids: tuple[int, ...]) -> int | list[int] | None:
    """The reverse of `token_ids`: null for none, a number for one, a list for several."""
    if len(ids) > 1:
        return list(ids)
    return ids[0] if ids else None


def _refuse_unknown(hf: Mapping[str, Any], family: Family) -> None:
    for key, value in hf.items():
        if key in _READ or key in family.switches or value is None or value is False:
            continue
        if key in _HARMLESS and key not in _MUST_BE_OFF:
            continue
        if key in _MUST_BE_OFF and value == 0:
            continue
        raise ConfigError(
            f"config.json of family {family.model_type!r} sets {quoted(key)} to {quoted(value)}, which this decoder "
            "does not compute: the model would load and give wrong numbers. If the key has no effect on the numbers, "
            "remove it from config.json."
        )


def _activation(name: str) -> Activation:
    if name not in ACTIVATIONS:
        raise ConfigError(f"`hidden_act` is {quoted(name)}; expected one of {', '.join(sorted(ACTIVATIONS))}.")
    return ACTIVATIONS[name]


def _num_labels(hf: Mapping[str, Any]) -> int | None:
    if not any(name.endswith(_CLASSIFIER) for name in hf.get("architectures") or ()):
        return None
    # transformers writes the names of the labels instead of their number, and assumes two when both are left
    # out.
    return hf.get("num_labels") or len(hf.get("id2label") or (0, 1))


def _rope(values: Mapping[str, Any]) -> RopeConfig:
    given = values.get("rope_scaling") or values.get("rope_parameters") or {}
    scaling = {key: value for key, value in given.items() if value is not None}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    theta = scaling.get("rope_theta", values.get("rope_theta", 10_000.0))
    if kind == "default":
        return RopeConfig(theta=theta)
    if kind not in _ROPE_KEYS:
        raise ConfigError(
            f"rope of kind {quoted(kind)} is not computed; the kinds known are default, linear and llama3."
        )
    missing = [key for key in _ROPE_KEYS[kind] if key not in scaling]
    if missing:
        raise ConfigError(f"`rope_scaling` of kind {kind!r} lacks {', '.join(missing)}; found {quoted(dict(scaling))}.")
    return RopeConfig(theta=theta, kind=kind, **{ours: scaling[key] for key, ours in _ROPE_KEYS[kind].items()})


_ROPE_KEYS = {
    "linear": {"factor": "factor"},
    "llama3": {
        "factor": "factor",
        "low_freq_factor": "low_freq_factor",
        "high_freq_factor": "high_freq_factor",
        "original_max_position_embeddings": "original_max_positions",
    },
}


def _rope_keys(rope: RopeConfig) -> dict[str, Any]:
    # transformers 4 reads the first two keys, transformers 5 any of them.
    if rope.kind == "default":
        parameters = {"rope_type": "default", "rope_theta": rope.theta}
        return {"rope_theta": rope.theta, "rope_scaling": None, "rope_parameters": parameters}
    values = dataclasses.asdict(rope)
    scaling = {"rope_type": rope.kind, **{key: values[ours] for key, ours in _ROPE_KEYS[rope.kind].items()}}
    parameters = {**scaling, "rope_theta": rope.theta}
    return {"rope_theta": rope.theta, "rope_scaling": scaling, "rope_parameters": parameters}
