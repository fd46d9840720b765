"""What the keys of config.json may hold: types and ranges, looked at before anything is built of them."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from easydel_models.errors import ConfigError, ModelError
from easydel_models.safe_text import quoted

_MOST_IDS = 10_000
_MOST_LAYERS = 2**12

Check = Callable[[Any], bool]


def is_whole(value: Any) -> bool:
    """Returns whether it is a whole number; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Returns whether it is a finite number that a float64 holds."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_section(value: Any) -> bool:
    return isinstance(value, dict)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_token(value: Any) -> bool:
    # -1 stands for none in some older files.
    return is_whole(value) and -1 <= value < 2**31


def _is_tokens(value: Any) -> bool:
    several = isinstance(value, list) and len(value) <= _MOST_IDS
    return _is_token(value) or (several and all(map(_is_token, value)))


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= _MOST_IDS and all(map(is_number, value))


def _is_size(value: Any) -> bool:
    return is_whole(value) and -1 <= value < 2**40


def _is_layer_count(value: Any) -> bool:
    # Families make something of each layer before the decoder's own check of sizes.
    return is_whole(value) and 0 <= value <= _MOST_LAYERS


_SIZE: tuple[Check, str] = (_is_size, "a whole number below 2^40")
_LAYERS: tuple[Check, str] = (_is_layer_count, f"a whole number from 1 to {2**12:,}")
_NUMBER: tuple[Check, str] = (is_number, "a number")
_TEXT: tuple[Check, str] = (_is_text, "text")
_FLAG: tuple[Check, str] = (_is_flag, "true or false")
_SECTION: tuple[Check, str] = (_is_section, "an object")

_KINDS: Mapping[str, tuple[Check, str]] = {
    "model_type": _TEXT,
    "hidden_act": _TEXT,
    "architectures": (_is_texts, "a list of names"),
    "vocab_size": _SIZE,
    "hidden_size": _SIZE,
    "intermediate_size": _SIZE,
    "num_hidden_layers": _LAYERS,
    "num_attention_heads": _SIZE,
    "num_key_value_heads": _SIZE,
    "head_dim": _SIZE,
    "max_position_embeddings": _SIZE,
    "sliding_window": _SIZE,
    "num_labels": _SIZE,
    "rms_norm_eps": _NUMBER,
    "initializer_range": _NUMBER,
    "rope_theta": _NUMBER,
    "rope_scaling": _SECTION,
    "rope_parameters": _SECTION,
    "tie_word_embeddings": _FLAG,
    "attention_bias": _FLAG,
    "mlp_bias": _FLAG,
    "qkv_bias": _FLAG,
    "use_sliding_window": _FLAG,
    "hidden_activation": _TEXT,
    "activation_function": _TEXT,
    "layer_types": (_is_texts, "a list of names"),
    "n_embd": _SIZE,
    "n_layer": _LAYERS,
    "n_head": _SIZE,
    "n_inner": _SIZE,
    "n_positions": _SIZE,
    "max_window_layers": _SIZE,
    "sliding_window_pattern": _SIZE,
    "_sliding_window_pattern": _SIZE,
    "no_rope_layer_interval": _SIZE,
    "original_max_position_embeddings": _SIZE,
    "layer_norm_eps": _NUMBER,
    "layer_norm_epsilon": _NUMBER,
    "partial_rotary_factor": _NUMBER,
    "rope_local_base_freq": _NUMBER,
    "query_pre_attn_scalar": _NUMBER,
    "attn_logit_softcapping": _NUMBER,
    "final_logit_softcapping": _NUMBER,
    "attention_multiplier": _NUMBER,
    "embedding_multiplier": _NUMBER,
    "residual_multiplier": _NUMBER,
    "logits_scaling": _NUMBER,
    "logit_scale": _NUMBER,
    "bos_token_id": (_is_token, "a token id"),
    "pad_token_id": (_is_token, "a token id"),
    "eos_token_id": (_is_tokens, "a token id or a list of them"),
}
_ROPE_KINDS: Mapping[str, tuple[Check, str]] = {
    "rope_type": _TEXT,
    "type": _TEXT,
    "rope_theta": _NUMBER,
    "factor": _NUMBER,
    "low_freq_factor": _NUMBER,
    "high_freq_factor": _NUMBER,
    "attention_factor": _NUMBER,
    "beta_fast": _NUMBER,
    "beta_slow": _NUMBER,
    "mscale": _NUMBER,
    "mscale_all_dim": _NUMBER,
    "partial_rotary_factor": _NUMBER,
    "llama_4_scaling_beta": _NUMBER,
    "truncate": _FLAG,
    "short_factor": (_is_numbers, "a list of numbers"),
    "long_factor": (_is_numbers, "a list of numbers"),
    "original_max_position_embeddings": _SIZE,
}


def check_values(hf: Mapping[str, Any], *, file: str = "config.json") -> None:
    """Compares the type of each key that is read, at any depth, with what it may be; null counts as left out.

    Raises:
        ConfigError: Naming the file, the key, its value and what is possible.
    """
    _check(hf, _KINDS, file, "")
    for key in ("rope_scaling", "rope_parameters"):
        section = hf.get(key) or {}
        _check(section, _ROPE_KINDS, file, f"{key}.")
        for name, inner in section.items():  # one for each type of layer
            if isinstance(inner, dict):
                _check(inner, _ROPE_KINDS, file, f"{key}.{name}.")
    labels = hf.get("id2label")
    if labels is not None and not isinstance(labels, dict | list):
        raise ConfigError(f"{file} sets 'id2label' to {quoted(labels)}; expected an object.")


def _check(values: Mapping[str, Any], kinds: Mapping[str, tuple[Check, str]], file: str, prefix: str) -> None:
    for key, (fits, expected) in kinds.items():
        value = values.get(key)
        if value is not None and not fits(value):
            raise ConfigError(f"{file} sets {prefix + key!r} to {quoted(value)}; expected {expected}.")


@contextmanager
def refusing_odd_values(model_type: Any) -> Iterator[None]:
    """The net behind `check_values`: what arithmetic on a family's own keys raises is an error of the file.

    Raises:
        ConfigError: In place of what Python raises for a value of another type, out of range, or missing.
    """
    try:
        yield
    except ModelError:
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f"config.json of family {quoted(model_type)} holds a value that no such model has: {error}. Compare it "
            "with the file of the model's authors."
        ) from error
