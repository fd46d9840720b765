"""The keys of a config.json: each one is taken over, known to be harmless, or refused."""

from collections.abc import Mapping
from typing import Any

from easydel_models.errors import ConfigError
from easydel_models.layers.activations import Activation
from easydel_models.safe_text import quoted

ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
}

# Keys that describe files, training or output formatting, not the function from tokens to logits.
_HARMLESS = frozenset(
    {
        "_attn_implementation",
        "_name_or_path",
        "architectures",
        "auto_map",
        "bos_token_id",
        "cache_implementation",
        "chunk_size_feed_forward",
        "dtype",
        "eos_token_id",
        "finetuning_task",
        "id2label",
        "is_llama_config",
        "label2id",
        "language",
        "max_length",
        "model_type",
        "name_or_path",
        "num_labels",
        "output_attentions",
        "output_hidden_states",
        "pad_token_id",
        "pretraining_tp",  # splits the same matrix products, from an older transformers
        "problem_type",
        "return_dict",
        "task_specific_params",
        "tokenizer_class",
        "torch_dtype",
        "transformers.js_config",
        "transformers_version",
        "unsloth_fixed",
        "unsloth_version",
        "use_cache",
    }
)


class Keys:
    """The contents of one config.json, which remembers what was asked of it. Final."""

    def __init__(
        self, contents: Mapping[str, Any], family: str, defaults: Mapping[str, Any], aliases: Mapping[str, str]
    ):
        """Wraps the parsed file.

        Args:
            contents: Of the file.
            family: Name for messages.
            defaults: What transformers assumes for keys that the file leaves out.
            aliases: What the family calls keys that most families call otherwise.
        """
        ours = {theirs: name for name, theirs in aliases.items()}
        self._contents = {ours.get(name, name): value for name, value in contents.items()}
        self._family = family
        self._defaults = defaults
        self._read: set[str] = set()

    def __call__(self, name: str, default: Any = None) -> Any:
        """Returns a value; the family's default, or else ``default``, where the file leaves the key out or has null."""
        self._read.add(name)
        value = self._contents.get(name)
        if value is None and name not in self._contents:
            value = self._defaults.get(name)
        return default if value is None else value

    def of_file(self, name: str) -> Any:
        """Returns the file's own value; None where it has none, whatever the family's default."""
        self._read.add(name)
        return self._contents.get(name)

    def sizes(self, *names: str) -> tuple[int, ...]:
        """Returns sizes that every model of the family has.

        Raises:
            ConfigError: Naming those that the file lacks.
        """
        values = [self(name) for name in names]
        missing = [name for name, value in zip(names, values, strict=True) if value is None]
        if missing:
            raise ConfigError(f"config.json lacks {', '.join(missing)}; every model needs: {', '.join(names)}.")
        return tuple(values)

    def activation(self, *names: str, default: str = "silu") -> Activation:
        """Returns the non-linearity that the first of ``names`` that the file has asks for.

        Raises:
            ConfigError: If it is none that is computed.
        """
        found = [(name, value) for name in names if (value := self(name)) is not None]
        name, value = found[0] if found else (names[0], default)
        if value not in ACTIVATIONS:
            raise ConfigError(f"`{name}` is {quoted(value)}; expected one of {', '.join(sorted(ACTIVATIONS))}.")
        return ACTIVATIONS[value]

    def off(self, *names: str) -> None:
        """Says that these keys would change the numbers if they were not 0, false or empty, as `finish` checks."""
        self._read.update(name for name in names if not self._contents.get(name))

    def ignored(self, *names: str) -> None:
        """Says that these keys have no effect on the numbers, whatever they are."""
        self._read.update(names)

    def expect(self, name: str, value: Any) -> None:
        """Says that a key is computed for one value alone, as `finish` checks."""
        if self._contents.get(name, value) == value:
            self._read.add(name)

    def expect_within(self, name: str, **values: Any) -> None:
        """Says that a key holds an object that is computed for these values alone, as `finish` checks."""
        found = self._contents.get(name)
        if isinstance(found, Mapping) and all(found.get(key) == value for key, value in values.items()):
            self._read.add(name)

    def finish(self) -> None:
        """Refuses keys that nobody asked for.

        Raises:
            ConfigError: If one is set that would change the numbers.
        """
        for name, value in self._contents.items():
            if name in self._read or name in _HARMLESS or value is None or value is False:
                continue
            raise ConfigError(
                f"config.json of family {self._family!r} sets {quoted(name)} to {quoted(value)}, which this decoder "
                "does not compute: the model would load and give wrong numbers. If the key has no effect on the "
                "numbers, remove it from config.json."
            )
