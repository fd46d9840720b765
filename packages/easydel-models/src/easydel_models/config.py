"""DecoderConfig: the frozen switches that say everything about a decoder except its weights.

>>> config = DecoderConfig(vocab_size=96, dim=32, num_layers=2, num_heads=4, num_kv_heads=2, mlp_dim=64)
>>> config.head_dim
8
>>> DecoderConfig.from_hf(config.to_hf()) == config
True
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from easydel_models.config_values import is_number, is_whole, refusing_odd_values
from easydel_models.errors import ConfigError
from easydel_models.families import family_of
from easydel_models.families.config_file import arguments_from_hf, hf_from_config
from easydel_models.families.wrappers import SPELLINGS, Spelling
from easydel_models.layers.activations import Activation
from easydel_models.layers.attention import Attention
from easydel_models.layers.gated import Gated
from easydel_models.layers.layer import LayerConfig
from easydel_models.layers.norms import NormConfig
from easydel_models.layers.rope import RopeConfig
from easydel_models.safe_text import quoted


@runtime_checkable
class CarriedTensor(Protocol):
    """A tensor in a file that is not read before it is written again; see `easydel_models.files.weights.LazyTensor`."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """What it is stored in."""
        ...

    def load(self) -> np.ndarray:
        """Reads it, in the dtype it is stored in."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DecoderConfig:
    """Sizes and switches of one decoder; `from_hf` reads them from a Hugging Face config, `to_hf` writes one.

    What its layers are is said in one of two ways: by `layers`, one configuration each; or, for layers that are all
    alike and made as Llama's are, by the sizes from `num_layers` to `sliding_window`. `all_layers` has the answer.
    """

    model_type: str = "llama"
    """Family: decides the names of the weights in files; see `easydel_models.families`."""

    vocab_size: int
    """Rows of the embedding."""
    dim: int
    """Width of the residual stream."""
    layers: tuple[LayerConfig, ...] = ()
    """What each layer is made of, the first one first; empty = all alike, as the sizes below say."""
    num_layers: int = 0
    """Decoder layers; with `layers`: their number."""
    num_heads: int = 0
    """Query heads; 0 with `layers`, as the sizes that follow."""
    num_kv_heads: int = 0
    """Key and value heads; divides `num_heads`."""
    head_dim: int = 0
    """Width of a head; 0 = dim / num_heads."""
    mlp_dim: int = 0
    """Width inside the gated MLP."""
    max_positions: int = 2048
    """Longest context, in tokens, the model was made for; generation and trainers hold to it, the decoder does not."""

    activation: Activation = "silu"
    """Non-linearity of the gate."""
    norm: NormConfig = dataclasses.field(default_factory=NormConfig)
    """Norm of every layer and of the end."""
    embedding_scale: float = 1.0
    """Factor on embeddings, rounded to the compute dtype."""
    learned_positions: bool = False
    """Whether each of `max_positions` positions has an embedding that is added to the token's."""
    own_inputs: int = 0
    """Width of what each layer alone is told of each token (`LayerConfig.own_input`); 0 = nothing."""
    own_vocab_size: int = 0
    """Rows of the embedding that these come from."""
    logit_scale: float = 1.0
    """Factor on the logits."""
    logit_softcap: float | None = None
    """Bound on the magnitude of the logits, ``c tanh(logit / c)``; None = no bound."""
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
    router_loss: float = 0.0
    """What training multiplies the load-balancing loss of routers by, unless it is told otherwise; at least 0."""
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
    generation_defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False)
    """What else generation_config.json says, such as a temperature: kept, and written back as it was read."""

    source: str = dataclasses.field(default="", compare=False, repr=False)
    """The config.json that `layers` were read from, which `to_hf` writes again."""
    wrapped_in: str = ""
    """``model_type`` of the checkpoint of which this decoder is the text model; empty = it is the whole."""
    carried: tuple[CarriedTensor, ...] = dataclasses.field(default=(), compare=False, repr=False)
    """Tensors of that checkpoint that are no part of the decoder, which saving writes again as they are."""
    spelling: Spelling = dataclasses.field(default=SPELLINGS[0], compare=False, repr=False)
    """How that checkpoint's names begin."""

    def __post_init__(self) -> None:
        """Fills in `head_dim` and refuses impossible sizes.

        Raises:
            ConfigError: Naming the field, its value and what is possible.
        """
        for name in ("vocab_size", "dim", "max_positions"):
            self._check_size(name)
        value = self.initializer_range
        _require(is_number(value) and value >= 0, "initializer_range", value, "a number of at least 0")
        value = self.router_loss
        _require(is_number(value) and value >= 0, "router_loss", value, "a number of at least 0")
        if self.layers:
            self._settle_layers()
        else:
            self._settle_sizes()
        labels = self.num_labels
        _require(_is_size(labels), "num_labels", labels, "a whole number from 1, or None for a language model")
        family_of(self.model_type)

    @property
    def all_layers(self) -> tuple[LayerConfig, ...]:
        """What each layer is made of, the first one first."""
        return self.layers or (self._layer_of_sizes(),) * self.num_layers

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
        with refusing_odd_values(hf.get("model_type")):
            return DecoderConfig(**arguments_from_hf(hf))

    def to_hf(self, *, dtype: str = "float32") -> dict[str, Any]:
        """Returns the config.json that transformers reads for this decoder, its weights being stored in ``dtype``."""
        return hf_from_config(self, dtype)

    def _layer_of_sizes(self) -> LayerConfig:
        mixer = Attention(
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            rope=self.rope,
            window=self.sliding_window,
            qkv_bias=self.attention_bias,
            output_bias=self.attention_bias,
        )
        return LayerConfig(
            mixer=mixer, feed_forward=Gated(width=self.mlp_dim, activation=self.activation, bias=self.mlp_bias)
        )

    def _settle_sizes(self) -> None:
        for name in ("num_layers", "num_heads", "num_kv_heads", "mlp_dim", "head_dim"):
            self._check_size(name)
        window = self.sliding_window
        _require(_is_size(window), "sliding_window", window, "a whole number from 1, or None for no window")
        if self.head_dim == 0:
            _require(self.dim % self.num_heads == 0, "dim", self.dim, f"a multiple of num_heads={self.num_heads}")
            object.__setattr__(self, "head_dim", self.dim // self.num_heads)
        self._layer_of_sizes()  # refuses what is impossible

    def _check_size(self, name: str) -> None:
        least, most, size = 0 if name == "head_dim" else 1, _MOST[name], getattr(self, name)
        _require(is_whole(size) and least <= size <= most, name, size, f"a whole number from {least} to {most:,}")

    def _settle_layers(self) -> None:
        # Two answers to one question would be one too many.
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for name in _SIZES_OF_LAYERS:
            _require(getattr(self, name) == defaults[name], name, getattr(self, name), "left out: `layers` says it")
        count = len(self.layers)
        _require(self.num_layers in (0, count), "num_layers", self.num_layers, f"{count}, the number of `layers`")
        object.__setattr__(self, "num_layers", count)


_SIZES_OF_LAYERS = ("num_heads", "num_kv_heads", "head_dim", "mlp_dim", "attention_bias", "mlp_bias", "sliding_window")


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


def _is_size(value: Any) -> bool:
    return value is None or (is_whole(value) and 1 <= value < 2**40)


def _require(condition: bool, field: str, value: object, expected: str) -> None:
    if not condition:
        raise ConfigError(f"`{field}` is {quoted(value)}; expected {expected}.")
