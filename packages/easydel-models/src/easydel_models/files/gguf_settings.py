"""The settings of one GGUF file: each one is taken over, known to say nothing, or refused."""

from typing import Any

import numpy as np

from easydel_models.config_values import is_number, is_whole
from easydel_models.errors import ConfigError, WeightsError
from easydel_models.files.gguf_file import GGUFFile, GGUFTensor
from easydel_models.safe_text import quoted

_SAYS_NOTHING = frozenset({"tensor_data_layout", "vocab_size"})  # nothing that the tensors do not say


class Settings:
    """The metadata of a file under its architecture's name, which remembers what was asked of it. Final."""

    def __init__(self, file: GGUFFile, architecture: str):
        """Wraps a file's header.

        Args:
            file: The file.
            architecture: What its keys begin with.
        """
        self.file = file
        self._prefix = f"{architecture}."
        self._read: set[str] = set()

    def number(self, name: str, default: Any = None) -> Any:
        """Returns a number above 0, the same in all layers.

        Raises:
            ConfigError: If there is none, or another in some layer.
        """
        value = self._of(name, default)
        if value is None:
            raise ConfigError(f"{self.file.path} lacks {self._prefix}{name}, without which the model cannot be built.")
        if isinstance(value, np.ndarray):
            if len(set(value.tolist())) != 1:
                raise ConfigError(
                    f"{self.file.path} gives {self._prefix}{name} per layer, {quoted(value.tolist())}; "
                    "expected one for all."
                )
            value = value[0].item()
        if not is_number(value) or value <= 0:
            raise ConfigError(
                f"{self.file.path} sets {self._prefix}{name} to {quoted(value)}; expected a number above 0."
            )
        return value

    def decimal(self, name: str, default: Any = None) -> float:
        """Returns a number as the shortest decimal of its float32.

        1e-5, where the file's 4 bytes read as a double are 9.99999974e-06.
        """
        return float(str(np.float32(self.number(name, default))))

    def optional(self, name: str) -> Any:
        """Returns a number, shortened as `decimal` does if it is no whole one; None where it is 0 or left out."""
        if self._of(name) in (None, 0):
            return None
        value = self.number(name)
        return value if is_whole(value) else self.decimal(name)

    def text(self, name: str, default: str) -> str:
        """Returns a word.

        Raises:
            ConfigError: If it is something else.
        """
        value = self._of(name, default)
        if not isinstance(value, str):
            raise ConfigError(f"{self.file.path} sets {self._prefix}{name} to {quoted(value)}; expected its name.")
        return value

    def expect(self, name: str, value: Any, what: str) -> None:
        """Refuses a setting that is there and another than ``value``.

        Raises:
            ConfigError: With the value, and ``what`` was expected.
        """
        found = self._of(name, value)
        if isinstance(found, bool) or not isinstance(found, int | float) or found != value:
            raise ConfigError(f"{self.file.path} sets {self._prefix}{name} to {quoted(found)}; expected {what}.")

    def ignored(self, *names: str) -> None:
        """Says that these settings have no effect on the numbers, whatever they are."""
        self._read.update(names)

    def tensor(self, name: str) -> GGUFTensor:
        """Returns a tensor.

        Raises:
            WeightsError: If the file has none of that name.
        """
        if name not in self.file.tensors:
            raise WeightsError(f"{self.file.path} holds no tensor {name}; a language model cannot be without.")
        return self.file.tensors[name]

    def finish(self) -> None:
        """Refuses settings that nobody asked for.

        Raises:
            ConfigError: If one is set that would change the numbers.
        """
        for key, value in self.file.metadata.items():
            name = key.removeprefix(self._prefix)
            if name == key or name in self._read or name in _SAYS_NOTHING or (is_number(value) and value == 0):
                continue
            raise ConfigError(
                f"{self.file.path} sets {key} to {quoted(value)}, which this decoder does not compute: the model would "
                "load and give wrong numbers."
            )

    def _of(self, name: str, default: Any = None) -> Any:
        self._read.add(name)
        return self.file.metadata.get(f"{self._prefix}{name}", default)
