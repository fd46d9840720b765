"""config.json in both directions: what all families have in common, around what each says for itself."""

import json
from collections.abc import Mapping
from typing import Any

from easydel_models.config_values import check_values
from easydel_models.families.keys import ACTIVATIONS, Keys
from easydel_models.families.table import family_of
from easydel_models.families.wrappers import WRAPPERS, text_section
from easydel_models.layers.norms import NormConfig
from easydel_models.layers.rope import RopeConfig

_CLASSIFIER = "ForSequenceClassification"


def arguments_from_hf(hf: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of `easydel_models.config.DecoderConfig` for config.json contents ``hf``.

    Raises:
        ConfigError: If a size is missing or a key is set that the decoder does not compute.
    """
    check_values(hf)
    wrapper = WRAPPERS.get(hf.get("model_type", ""))
    if wrapper is not None:
        inner = arguments_from_hf(text_section(hf, wrapper))
        return inner | {"source": json.dumps(dict(hf)), "wrapped_in": wrapper.model_type}
    family = family_of(hf.get("model_type"))
    keys = Keys(hf, family.model_type, family.defaults, family.aliases)
    vocab_size, dim = keys.sizes("vocab_size", "hidden_size")
    common = {
        "model_type": family.model_type,
        "vocab_size": vocab_size,
        "dim": dim,
        "max_positions": keys("max_position_embeddings"),
        "norm": NormConfig(eps=keys("rms_norm_eps", 1e-6)),
        "tie_embeddings": keys("tie_word_embeddings", False),
        "num_labels": _num_labels(hf),
        "initializer_range": keys("initializer_range", 0.02),
        "bos_token_id": keys("bos_token_id"),
        "eos_token_ids": token_ids(keys("eos_token_id")),
        "pad_token_id": keys("pad_token_id"),
    }
    own = family.read(keys)
    keys.finish()
    arguments = common | own
    return arguments | {"source": json.dumps(dict(hf))} if arguments.get("layers") else arguments


def hf_from_config(config: Any, dtype: str) -> dict[str, Any]:
    """Returns the config.json contents for a `easydel_models.config.DecoderConfig`.

    A decoder whose layers are given by sizes is written from those, in the spelling of transformers 4 and 5 both; any
    other as the file that it was read from, but for what may have changed since: the head, its tokens, the dtype.
    """
    if config.wrapped_in:
        return _whole(config, dtype)
    family = family_of(config.model_type)
    suffix = family.head_class if config.num_labels is None else _CLASSIFIER
    hf = {
        **(json.loads(config.source) if config.source else _sizes(config)),
        "architectures": [family.class_prefix + suffix],
        "vocab_size": config.vocab_size,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": one_or_list(config.eos_token_ids),
        "pad_token_id": config.pad_token_id,
        "tie_word_embeddings": config.tie_embeddings,
        "dtype": dtype,
    }
    if "torch_dtype" in hf:
        hf["torch_dtype"] = dtype
    hf.pop("quantization_config", None)  # what is quantized is read as the numbers it stands for, and written so
    if config.num_labels is not None:
        labels = [f"LABEL_{index}" for index in range(config.num_labels)]
        hf["id2label"] = {str(index): label for index, label in enumerate(labels)}
        hf["label2id"] = {label: index for index, label in enumerate(labels)}
    return hf


def _whole(config: Any, dtype: str) -> dict[str, Any]:
    """Returns the config.json of a checkpoint of which the text model is a part."""
    hf = json.loads(config.source)
    text = hf.get("text_config", hf)
    text["vocab_size"] = config.vocab_size
    if hf.get("eos_token_id", text.get("eos_token_id")) != one_or_list(config.eos_token_ids):
        hf["eos_token_id"] = one_or_list(config.eos_token_ids)
    hf["torch_dtype" if "torch_dtype" in hf else "dtype"] = dtype
    return hf


def token_ids(value: int | list[int] | None) -> tuple[int, ...]:
    """Returns the ids of a key that may hold one id, several, or null."""
    if value is None:
        return ()
    return (value,) if isinstance(value, int) else tuple(value)


def one_or_list(ids: tuple[int, ...]) -> int | list[int] | None:
    """Returns the reverse of `token_ids`: null for none, a number for one, a list for several."""
    if len(ids) > 1:
        return list(ids)
    return ids[0] if ids else None


def _num_labels(hf: Mapping[str, Any]) -> int | None:
    if not any(name.endswith(_CLASSIFIER) for name in hf.get("architectures") or ()):
        return None
    # transformers writes the names of the labels instead of their number, and assumes two when both are left
    # out.
    return hf.get("num_labels") or len(hf.get("id2label") or (0, 1))


def _sizes(config: Any) -> dict[str, Any]:
    reverse = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
    llama = {"attention_bias": config.attention_bias, "mlp_bias": config.mlp_bias}
    return {
        "model_type": config.model_type,
        "hidden_size": config.dim,
        "intermediate_size": config.mlp_dim,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_positions,
        "hidden_act": reverse[config.activation],
        "rms_norm_eps": config.norm.eps,
        **_rope_keys(config.rope),
        **(llama if config.model_type == "llama" else {"sliding_window": config.sliding_window}),
        "attention_dropout": 0.0,
        "initializer_range": config.initializer_range,
        "use_cache": True,
    }


def _rope_keys(rope: RopeConfig) -> dict[str, Any]:
    # transformers 4 reads the first two keys, transformers 5 any of them.
    scaling: dict[str, Any] = {"rope_type": rope.kind}
    if rope.kind != "default":
        scaling["factor"] = rope.factor
    if rope.kind in ("llama3", "yarn"):
        scaling["original_max_position_embeddings"] = rope.original_max_positions
    if rope.kind == "llama3":
        scaling |= {"low_freq_factor": rope.low_freq_factor, "high_freq_factor": rope.high_freq_factor}
    if rope.kind == "yarn":
        scaling |= {"beta_fast": rope.beta_fast, "beta_slow": rope.beta_slow, "truncate": rope.truncate}
        scaling |= {"attention_factor": rope.magnitude}
    parameters = {**scaling, "rope_theta": rope.theta}
    old = None if rope.kind == "default" else scaling
    return {"rope_theta": rope.theta, "rope_scaling": old, "rope_parameters": parameters}
