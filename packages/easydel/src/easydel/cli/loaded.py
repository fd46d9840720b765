"""A model to use rather than to train: loaded by any of its names, with adapters if there are some."""

from __future__ import annotations

from typing import Any

from easydel.cli.locations import model_location, tokenizer_at


def load_language_model(name: str, *, adapter: str | None, tokenizer: str | None) -> tuple[Any, Any]:
    """A causal language model and its tokenizer.

    Args:
        name: folder, Hub id, .gguf file, or `package://PACKAGE/FILE`.
        adapter: folder of PEFT adapters to put on it; `None` = none.
        tokenizer: where the tokenizer is; `None` = with the model.

    Raises:
        CommandError: if there is no tokenizer. What the models raise is passed on.
    """
    from easydel_models import AutoEasyDeLModelForCausalLM
    from easydel_models.peft_files import load_adapter

    location = model_location(name)
    words = tokenizer_at(model_location(tokenizer) if tokenizer else location)
    model = AutoEasyDeLModelForCausalLM.from_pretrained(location)
    return (model if adapter is None else load_adapter(adapter, model)), words


def size_of(model: Any) -> int:
    """Numbers in a model."""
    from easydel_models.parameters import count_parameters, split_params

    return count_parameters(split_params(model)[1])
