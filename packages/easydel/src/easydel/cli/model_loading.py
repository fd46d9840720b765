"""A model to use rather than to train: loaded by any of its names, with adapters if there are some."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from easydel.cli.output.errors import CommandError
from easydel.cli.training.config_yaml import RUN_FILE


def load_language_model(name: str, *, adapter: str | None, tokenizer: str | None) -> tuple[Any, Any]:
    """A causal language model and its tokenizer.

    Args:
        name: folder, Hub id, .gguf file, or `package://PACKAGE/FILE`.
        adapter: folder of PEFT adapters to put on it; `None` = none.
        tokenizer: where the tokenizer is; `None` = with the model.

    Raises:
        CommandError: if it is the folder of a run. What is raised for models and tokenizers is passed on.
    """
    from easydata_tokenize import load_tokenizer
    from easydel_models import AutoEasyDeLModelForCausalLM
    from easydel_models.adapters.peft_files import load_adapter

    _refuse_run(Path(name))
    loaded = load_tokenizer(tokenizer or name)
    model = AutoEasyDeLModelForCausalLM.from_pretrained(name)
    return (model if adapter is None else load_adapter(adapter, model)), loaded


def _refuse_run(folder: Path) -> None:
    """Raise for the folder of a run, which holds a model in a folder of its own, or checkpoints."""
    if not (folder / RUN_FILE).is_file() or (folder / "config.json").is_file():
        return
    if (folder / "model" / "config.json").is_file():
        raise CommandError(f"{folder} is the folder of a run. Its model is {folder / 'model'}.")
    raise CommandError(
        f"{folder} is the folder of a run that has not ended. `easydel export {folder} FOLDER` makes a model of its "
        "newest checkpoint."
    )


def size_of(model: Any) -> int:
    """Numbers in a model."""
    from easydel_models.parameters import count_parameters, split_params

    return count_parameters(split_params(model)[1])
