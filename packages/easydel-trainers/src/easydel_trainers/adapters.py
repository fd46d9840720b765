"""Adapters as the config asks for them."""

from __future__ import annotations

from typing import Any

from easydel_models.lora import with_lora

from easydel_trainers.config import TrainerConfig
from easydel_trainers.errors import ConfigError


def adapted(model: Any, config: TrainerConfig) -> Any:
    """The model with the adapters that `config.lora` describes, on the same base; with its own, if it has some.

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


def dropout_seed(model: Any, config: TrainerConfig) -> int | None:
    """The seed of what adapters leave out in training; `None` where they leave out nothing."""
    return config.seed if model.lora is not None and model.lora.dropout > 0 else None
