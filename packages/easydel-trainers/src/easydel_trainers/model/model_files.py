"""A model and its tokenizer: restored from a run's folder, written as files that others load."""

from __future__ import annotations

from os import PathLike
from typing import Any, final

from easydel_models.adapters.peft_files import save_adapter

from easydel_trainers.checkpoints.restoring import restore_model
from easydel_trainers.config import TrainerConfig
from easydel_trainers.errors import ConfigError
from easydel_trainers.model.export import save_with_tokenizer


@final
class ModelFiles:
    """A model of a training, in memory, and its files.

    Args:
        model: with its adapters.
        tokenizer: of it.
        config: of the training.
        name: folder, Hub id or file that the model came from; `None` = it was given as an object.
    """

    def __init__(self, model: Any, tokenizer: Any, config: TrainerConfig, *, name: str | None):
        self.model, self._tokenizer, self._config, self._name = model, tokenizer, config, name

    def restore(self) -> int:
        """Gives the model the parameters of the newest whole checkpoint of `save_directory`.

        It is the best one's where `load_best_model_at_end` asks for it. Nothing in the folder changes, so a run may be
        going on in it.

        Returns:
            The step that it was written behind.

        Raises:
            ConfigError: if there is no `save_directory`.
            CheckpointError: if there is none, or it is one of another model.
        """
        if self._config.save_directory is None:
            raise ConfigError("save_directory", None, "the folder of a run to restore from")
        return restore_model(self.model, self._config, self._config.save_directory)

    def save_pretrained(self, path: str | PathLike[str]) -> None:
        """Writes model and tokenizer as a Hugging Face folder; adapters are merged into the kernels.

        With several processes all must call it; process 0 writes.
        """
        save_with_tokenizer(path, self.model, self._tokenizer)

    def save_adapter(self, path: str | PathLike[str]) -> None:
        """Writes the adapters alone, in the files of `peft`.

        Raises:
            LoraError: if the model has none.
        """
        save_adapter(path, self.model, base_model=self._name)
