"""Rotary position embedding: the position of a token, written into queries and keys as an angle.

Axis letters: B batch, T tokens, H heads, K head_dim, half K/2.
"""

import dataclasses
import math
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from easydel_models.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RopeConfig:
    """How fast each pair of dimensions turns, and how a longer context than the trained one is reached."""

    theta: float = 10_000.0
    """Base of the geometric series of wavelengths."""
    kind: Literal["default", "linear", "llama3"] = "default"
    """``linear`` divides every frequency by `factor`; ``llama3`` only the slow ones."""
    factor: float = 1.0
    """How many times longer the context became; unused by ``default``."""

    low_freq_factor: float = 1.0
    """``llama3``: wavelengths above original_max_positions / this are divided by `factor`."""
    high_freq_factor: float = 4.0
    """``llama3``: wavelengths below original_max_positions / this stay; those between are blended."""
    original_max_positions: int = 8192
    """``llama3``: context length, in tokens, the model was first trained with."""

    def __post_init__(self) -> None:
        """Refuses values that have no meaning."""
        if not (0 < self.theta < math.inf and 0 < self.factor < math.inf and self.original_max_positions > 0):
            raise ConfigError(
                "`theta`, `factor` and `original_max_positions` of rope must be positive; "
                f"got {self.theta}, {self.factor} and {self.original_max_positions}."
            )
        if self.kind == "llama3" and not 0 < self.low_freq_factor < self.high_freq_factor:
            raise ConfigError(
                "llama3 rope needs 0 < `low_freq_factor` < `high_freq_factor`; "
                f"got {self.low_freq_factor} and {self.high_freq_factor}."
            )


def rope_frequencies(config: RopeConfig, head_dim: int) -> np.ndarray:
    """Returns the [head_dim / 2] float32 angles, in radians per position, of one rope.

    Pair i turns by ``theta ** (-2 i / head_dim)``. References: Su et al., RoFormer, 2021,
    https://arxiv.org/abs/2104.09864, eq. 15; Chen et al., Position Interpolation, 2023,
    https://arxiv.org/abs/2306.15595 (linear); Llama 3.1 model card and reference code (llama3).
    """
    frequencies = 1.0 / config.theta ** (np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim))
    if config.kind == "linear":
        frequencies = frequencies / config.factor
    elif config.kind == "llama3":
        frequencies = _llama3(frequencies, config)
    return frequencies.astype(np.float32)


def rope_tables(
    config: RopeConfig, head_dim: int, positions: Int[Array, "B T"]
) -> tuple[Float[Array, "B T half"], Float[Array, "B T half"]]:
    """Returns cosine and sine, in float32, of every angle at every position."""
    angles = positions.astype(jnp.float32)[..., None] * rope_frequencies(config, head_dim)[None, None, :]
    return jnp.cos(angles), jnp.sin(angles)


def apply_rope(
    x: Float[Array, "B T H K"], cos: Float[Array, "B T half"], sin: Float[Array, "B T half"]
) -> Float[Array, "B T H K"]:
    """Turns each pair (i, i + K/2) of ``x`` by its angle; computed in float32, returned in the dtype of ``x``."""
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = cos[:, :, None, :], sin[:, :, None, :]
    return jnp.concatenate((first * cos - second * sin, second * cos + first * sin), axis=-1).astype(x.dtype)


def _llama3(frequencies: np.ndarray, config: RopeConfig) -> np.ndarray:
    turns = config.original_max_positions * frequencies / (2 * math.pi)
    blend = (turns - config.low_freq_factor) / (config.high_freq_factor - config.low_freq_factor)
    blend = np.clip(blend, 0.0, 1.0)
    return (1 - blend) * frequencies / config.factor + blend * frequencies
