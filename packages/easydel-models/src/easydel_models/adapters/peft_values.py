"""adapter_config.json read key by key: each of its type, before adapters are built of them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from easydel_models.config_values import is_number, is_whole
from easydel_models.errors import LoraError
from easydel_models.files.json_file import read_json_object
from easydel_models.safe_text import quoted

_MOST_RANK = 1 << 16


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(map(is_number, value.values()))


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


_KINDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "r": (lambda value: is_whole(value) and 1 <= value <= _MOST_RANK, f"a whole number from 1 to {_MOST_RANK:,}"),
    "lora_alpha": (is_number, "a number"),
    "lora_dropout": (is_number, "a number"),
    "rank_pattern": (_is_numbers, "an object of numbers"),
    "alpha_pattern": (_is_numbers, "an object of numbers"),
    "target_parameters": (_is_names, "a list of names"),
    "use_rslora": (_is_flag, "true or false"),  # a text, even "false", is true to Python
}
_NEEDED = ("r", "lora_alpha")


def read_peft_config(path: Path) -> dict[str, Any]:
    """Returns what an adapter_config.json says; null counts as left out.

    Raises:
        ModelNotFoundError: If it is not there.
        LoraError: If it is no JSON object, lacks `r` or `lora_alpha`, or one of its values is of another type.
    """
    config = {key: value for key, value in read_json_object(path, error=LoraError).items() if value is not None}
    if config.get("peft_type") != "LORA":
        raise LoraError(f"{path} has the peft_type {quoted(config.get('peft_type'))}; only LORA is computed here.")
    for key, (fits, expected) in _KINDS.items():
        if key in config and not fits(config[key]):
            raise LoraError(f"{path} sets {key!r} to {quoted(config[key])}; expected {expected}.")
    if missing := [key for key in _NEEDED if key not in config]:
        raise LoraError(f"{path} lacks {' and '.join(missing)}; adapters need both.")
    return config
