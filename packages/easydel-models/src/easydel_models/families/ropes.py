"""Rotary embeddings in config.json: as transformers 5 writes them, and as transformers 4 did."""

import math
from collections.abc import Mapping
from typing import Any, get_args

from easydel_models.errors import ConfigError
from easydel_models.families.keys import Keys
from easydel_models.layers.rope import RopeConfig, RopeKind
from easydel_models.safe_text import quoted

_WORDS: dict[RopeKind, dict[str, str]] = {
    "linear": {"factor": "factor"},
    "llama3": {
        "factor": "factor",
        "low_freq_factor": "low_freq_factor",
        "high_freq_factor": "high_freq_factor",
        "original_max_position_embeddings": "original_max_positions",
    },
    "yarn": {"factor": "factor", "original_max_position_embeddings": "original_max_positions"},
    "longrope": {"short_factor": "short_factors", "long_factor": "long_factors"},
    "proportional": {},
    "default": {},
}
"""What a kind cannot be without: its key -> the field of `RopeConfig`."""

_SAME = {"mrope": "default", "su": "longrope", "dynamic": "default"}
"""Kinds by another name: text has one position where ``mrope`` has three, and ``dynamic`` is plain up to the length a
model was made for."""


def rope_of(
    keys: Keys,
    *,
    layer_type: str | None = None,
    theta: float = 10_000.0,
    fraction: float = 1.0,
    interleaved: bool = False,
    plain: bool = False,
    kind: RopeKind = "default",
) -> RopeConfig:
    """Returns the rope that a config.json describes.

    Args:
        keys: Of the file.
        layer_type: Whose rope, where the file may have one for each type of layer.
        theta: Base, where the file has none.
        fraction: Share of dimensions that turn, where the file has none.
        interleaved: See `RopeConfig`.
        kind: Of the rope, where the file has none.
        plain: Whether transformers 4 scaled other types of layers alone, so that its spelling says nothing of this one.

    Raises:
        ConfigError: If the kind is not computed, or lacks something.
    """
    scaling, old = _scaling(keys, layer_type)
    scaling = {} if old and plain else {key: value for key, value in scaling.items() if value is not None}
    of_file = keys("rope_theta", theta)
    theta = scaling.get("rope_theta") or (theta if plain and old else of_file)
    named = scaling.get("rope_type", scaling.get("type", kind))
    wanted = _SAME.get(named, named)
    found_kind: RopeKind | None = next((known for known in get_args(RopeKind) if known == wanted), None)
    turned = keys("partial_rotary_factor", fraction)  # read in any case: transformers writes it beside the rope's own
    fraction = scaling.get("partial_rotary_factor") or turned
    if found_kind is None:
        known = ", ".join(get_args(RopeKind))
        raise ConfigError(f"rope of kind {quoted(named)} is not computed; the kinds known are {known}.")
    kind = found_kind
    found = {**scaling, "original_max_position_embeddings": _original(keys, scaling, kind)}
    missing = [key for key in _WORDS[kind] if found.get(key) is None]
    if missing:
        raise ConfigError(f"`rope_scaling` of kind {kind!r} lacks {', '.join(missing)}; found {quoted(dict(scaling))}.")
    own: dict[str, Any] = {ours: _frozen(found[key]) for key, ours in _WORDS[kind].items()}
    if kind == "yarn":
        own |= _yarn(found)
    elif kind == "longrope":
        own |= _longrope(keys, found)
    elif kind == "proportional":
        own |= {"factor": float(scaling.get("factor") or 1.0)}
    return RopeConfig(kind=kind, theta=float(theta), fraction=float(fraction), interleaved=interleaved, **own)


def _scaling(keys: Keys, layer_type: str | None) -> tuple[Mapping[str, Any], bool]:
    """Returns the rope's own keys, and whether they are in the spelling of transformers 4."""
    old, new = keys("rope_scaling"), keys("rope_parameters")
    if new and isinstance(new.get(layer_type), Mapping):
        return new[layer_type], False
    if new and not any(isinstance(value, Mapping) for value in new.values()):
        return new, False
    return old or {}, True


def _original(keys: Keys, scaling: Mapping[str, Any], kind: str) -> int | None:
    # Beside the rope, the number goes first: as in transformers, for files that have it in both places.
    original = keys.of_file("original_max_position_embeddings") or scaling.get("original_max_position_embeddings")
    if kind == "llama3":
        return original
    return original or keys("original_max_position_embeddings") or keys("max_position_embeddings")


def _yarn(scaling: Mapping[str, Any]) -> dict[str, Any]:
    factor, all_dims, some = (scaling.get(key) for key in ("factor", "mscale_all_dim", "mscale"))
    magnitude = scaling.get("attention_factor")
    if magnitude is None:
        both = some and all_dims
        magnitude = yarn_magnitude(factor, some) / yarn_magnitude(factor, all_dims) if both else yarn_magnitude(factor)
    return {
        "beta_fast": float(scaling.get("beta_fast") or 32),
        "beta_slow": float(scaling.get("beta_slow") or 1),
        "truncate": scaling.get("truncate", True),
        "magnitude": float(magnitude),
    }


def yarn_magnitude(factor: float | None, mscale: float | None = 1.0) -> float:
    """Returns ``0.1 mscale log(factor) + 1``: what YaRN multiplies queries and keys by.

    References: Peng et al., YaRN, 2023, https://arxiv.org/abs/2309.00071, eq. 22.
    """
    if factor is None or factor <= 1:
        return 1.0
    return 0.1 * (1.0 if mscale is None else mscale) * math.log(factor) + 1.0


def _longrope(keys: Keys, scaling: Mapping[str, Any]) -> dict[str, Any]:
    original = scaling["original_max_position_embeddings"]
    factor = keys("max_position_embeddings") / original if keys("original_max_position_embeddings") else None
    factor = factor or scaling.get("factor") or 1.0
    magnitude = scaling.get("attention_factor")
    if magnitude is None:
        magnitude = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))
    return {"original_max_positions": int(original), "magnitude": float(magnitude)}


def _frozen(value: Any) -> Any:
    return tuple(float(one) for one in value) if isinstance(value, list | tuple) else value
