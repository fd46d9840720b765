"""What this package raises: one base, one class for each thing a user can mend."""

from easydel_models.safe_text import readable


class ModelError(ValueError):
    """Base of every error of easydel-models that a user can mend.

    As text it is at most a screen long and moves no terminal's cursor, whatever the file or server said that it quotes.
    """

    def __str__(self) -> str:
        return readable(super().__str__())


class ConfigError(ModelError):
    """A model configuration that is impossible, incomplete, or that this decoder would compute wrongly."""


class WeightsError(ModelError):
    """Weights that do not fit the configuration: a tensor is missing, left over, or has the wrong shape."""


class ModelNotFoundError(ModelError, FileNotFoundError):
    """A folder, file or Hub repository that is not there, or lacks a file that every model needs."""


class LoraError(ModelError):
    """Adapters that are impossible, fit no layer of the model, or would be computed wrongly."""


class MissingExtraError(ModelError, ImportError):
    """A package that only this needs is not installed; the message names the extra that brings it."""


class OptionsError(ModelError):
    """Prompts or options of a generation that have no meaning, or that do not fit the model."""


class EngineError(ModelError):
    """A generation engine outside this process that cannot be reached, refuses, or answers what cannot be used."""


class MeshError(ModelError):
    """A mesh of devices that is impossible, or that the model, the batch or the machine cannot be cut for."""
