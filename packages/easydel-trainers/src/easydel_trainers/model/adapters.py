"""The adapters that a config asks for, and whether its attention is to be had."""

from __future__ import annotations

from typing import Any

from easydel_models.adapters.lora import with_lora
from easydel_models.attention import why_unavailable

from easydel_trainers.config import TrainerConfig
from easydel_trainers.errors import ConfigError


def adapted(model: Any, config: TrainerConfig) -> Any:
    """Returns the model with the adapters that `config.lora` describes, on the same base; with its own, if it has some.

    Raises:
        ConfigError: if the model has adapters and the config asks for others.
        LoraError: if a target matches nothing.
    """
    if config.lora is None:
        return model
    if model.lora is not None:
        raise ConfigError(
            "lora",
            config.lora,
            "None for a model that has adapters, which are then trained on; easydel_models.merge_lora(model) makes "
            "room for new ones",
        )
    return with_lora(model, config.lora, seed=config.seed)


def check_attention(config: TrainerConfig) -> None:
    """Looks whether this machine can run the attention that a config asks for.

    Raises:
        ConfigError: saying why it cannot.
    """
    if reason := why_unavailable(config.attention):
        raise ConfigError("attention", config.attention, f"'auto' or 'blocked' here: it {reason}")
