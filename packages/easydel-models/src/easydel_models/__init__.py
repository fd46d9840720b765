"""One config-driven decoder in Flax NNX.

It loads and saves Hugging Face folders and GGUF files, gives hidden states, logits and scores, generates, and carries
low-rank adapters. Names are fetched when they are first used, so that a config of adapters need not wait for JAX.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from easydel_models.adapters.config import LoraConfig as LoraConfig
    from easydel_models.adapters.lora import combine_params as combine_params
    from easydel_models.adapters.lora import merge_lora as merge_lora
    from easydel_models.adapters.lora import split_trainable as split_trainable
    from easydel_models.adapters.lora import with_lora as with_lora
    from easydel_models.adapters.lora import without_lora as without_lora
    from easydel_models.adapters.peft_files import load_adapter as load_adapter
    from easydel_models.adapters.peft_files import save_adapter as save_adapter
    from easydel_models.auto import AutoEasyDeLModelForCausalLM as AutoEasyDeLModelForCausalLM
    from easydel_models.auto import (
        AutoEasyDeLModelForSequenceClassification as AutoEasyDeLModelForSequenceClassification,
    )
    from easydel_models.config import DecoderConfig as DecoderConfig
    from easydel_models.heads import CausalLM as CausalLM
    from easydel_models.heads import SequenceClassifier as SequenceClassifier
    from easydel_models.parameters import join_params as join_params
    from easydel_models.parameters import split_params as split_params

__all__ = [
    "AutoEasyDeLModelForCausalLM",
    "AutoEasyDeLModelForSequenceClassification",
    "CausalLM",
    "DecoderConfig",
    "LoraConfig",
    "SequenceClassifier",
    "combine_params",
    "join_params",
    "load_adapter",
    "merge_lora",
    "save_adapter",
    "split_params",
    "split_trainable",
    "with_lora",
    "without_lora",
]

_HOMES = {
    "AutoEasyDeLModelForCausalLM": "auto",
    "AutoEasyDeLModelForSequenceClassification": "auto",
    "CausalLM": "heads",
    "DecoderConfig": "config",
    "LoraConfig": "adapters.config",
    "SequenceClassifier": "heads",
    "combine_params": "adapters.lora",
    "join_params": "parameters",
    "load_adapter": "adapters.peft_files",
    "merge_lora": "adapters.lora",
    "save_adapter": "adapters.peft_files",
    "split_params": "parameters",
    "split_trainable": "adapters.lora",
    "with_lora": "adapters.lora",
    "without_lora": "adapters.lora",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(_import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
