"""DecoderConfig: the frozen switches that say everything about a decoder except its weights.

>>> config = DecoderConfig(vocab_size=96, dim=32, num_layers=2, num_heads=4, num_kv_heads=2, mlp_dim=64)
>>> config.head_dim
8
>>> DecoderConfig.from_hf(config.to_hf()) == config
True
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from easydel_models.config_values import is_number, is_whole
from easydel_models.errors import ConfigError
from easydel_models.families import family_of
from easydel_models.layers.rope import RopeConfig
from easydel_models.shown import quoted

Activation = Literal["silu", "gelu", "gelu_tanh"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DecoderConfig:
    """Sizes and switches of one decoder; `from_hf` reads them from a Hugging Face config, `to_hf` writes one."""

    model_type: str = "llama"
    """Family: decides the names of the weights in files; see `easydel_models.families`."""

    vocab_size: int
    """Rows of the embedding."""
    dim: int
    """Width of the residual stream."""
    num_layers: int
    """Decoder layers."""
    num_heads: int
    """Query heads."""
    num_kv_heads: int
    """Key and value heads; divides `num_heads`."""
    head_dim: int = 0
    """Width of a head; 0 = dim / num_heads."""
    mlp_dim: int
    """Width inside the gated MLP."""
    max_positions: int = 2048
    """Longest context, in tokens, the model was made for; written to config.json, not enforced."""

    activation: Activation = "silu"
    """Non-linearity of the gate."""
    norm_eps: float = 1e-6
    """Added to the mean square inside every RMS norm."""
    rope: RopeConfig = dataclasses.field(default_factory=RopeConfig)
    """Rotary position embedding."""
    attention_bias: bool = False
    """Whether query, key, value and output projections have biases."""
    mlp_bias: bool = False
    """Whether gate, up and down projections have biases."""
    sliding_window: int | None = None
    """Tokens a query sees, itself included; None = all before it."""
    tie_embeddings: bool = False
    """Whether the language-model head is the embedding."""
    num_labels: int | None = None
    """Outputs of a classification head; None = a language-model head."""
    initializer_range: float = 0.02
    """Standard deviation of freshly drawn weights."""

    bos_token_id: int | None = None
    """Token that begins a text."""
    eos_token_ids: tuple[int, ...] = ()
    """Tokens that end a generation."""
    pad_token_id: int | None = None
    """Token that fills rows; it is an ordinary token to the decoder, segment ids say what is padding."""

    def __post_init__(self) -> None:
        """Fills in `head_dim` and refuses impossible sizes.

        Raises:
            ConfigError: Naming the field, its value and what is possible.
        """
        for name, most in _MOST.items():
            least = 0 if name == "head_dim" else 1
            size = getattr(self, name)
            _require(is_whole(size) and least <= size <= most, name, size, f"a whole number from {least} to {most:,}")
        for name in ("norm_eps", "initializer_range"):
            value = getattr(self, name)
            _require(is_number(value) and value >= 0, name, value, "a number of at least 0")
        if self.head_dim == 0:
            _require(self.dim % self.num_heads == 0, "dim", self.dim, f"a multiple of num_heads={self.num_heads}")
            object.__setattr__(self, "head_dim", self.dim // self.num_heads)
        _require(self.head_dim > 0 and self.head_dim % 2 == 0, "head_dim", self.head_dim, "even, for rope")
        _require(
            self.num_heads % self.num_kv_heads == 0,
            "num_kv_heads",
            self.num_kv_heads,
            f"a divisor of num_heads={self.num_heads}",
        )
        window, labels = self.sliding_window, self.num_labels
        _require(_is_size(window), "sliding_window", window, "a whole number from 1, or None for no window")
        _require(_is_size(labels), "num_labels", labels, "a whole number from 1, or None for a language model")
        family_of(self.model_type)

    @staticmethod
    def from_hf(hf: Mapping[str, Any]) -> "DecoderConfig":
        """Reads the contents of a Hugging Face config.json.

        Args:
            hf: The parsed file. ``num_labels`` is taken over only from a sequence-classification
                architecture.

        Raises:
            ConfigError: If a size is missing, or a key is set that would change the numbers and that this
                decoder does not compute; it is refused rather than ignored.
        """
        from easydel_models.families.hf_config import config_from_hf

        return config_from_hf(hf)

    def to_hf(self, *, dtype: str = "float32") -> dict[str, Any]:
        """Returns the config.json that transformers reads for this decoder, its weights being stored in ``dtype``."""
        from easydel_models.families.hf_config import hf_from_config

        return hf_from_config(self, dtype)


# Far beyond every model there is, and small enough that names and shapes are listed before anything is allocated.
_MOST = {
    "vocab_size": 2**26,
    "dim": 2**20,
    "num_layers": 2**12,
    "num_heads": 2**16,
    "num_kv_heads": 2**16,
    "head_dim": 2**16,
    "mlp_dim": 2**23,
    "max_positions": 2**40,
}


def _is_size(value: object) -> bool:
    return value is None or (is_whole(value) and 1 <= value < 2**40)


def _require(condition: bool, field: str, value: object, expected: str) -> None:
    if not condition:
        raise ConfigError(f"`{field}` is {quoted(value)}; expected {expected}.")
