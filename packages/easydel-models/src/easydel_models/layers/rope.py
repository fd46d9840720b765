"""Rotary position embedding: the position of a token, written into queries and keys as an angle.

Axis letters: B batch, T tokens, H heads, K head_dim, half the pairs of dimensions that turn.
"""

import dataclasses
import math
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from easydel_models.errors import ConfigError

RopeKind = Literal["default", "linear", "llama3", "yarn", "longrope", "proportional"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RopeConfig:
    """How fast each pair of dimensions rotates, and how a longer context than the trained one is reached."""

    theta: float = 10_000.0
    """Base of the geometric series of wavelengths."""
    kind: RopeKind = "default"
    """``linear`` divides every frequency by `factor`; ``llama3`` only the slow ones; ``yarn`` along a ramp;
    ``longrope`` each by a number of its own; ``proportional`` spreads the series over the whole head and turns its fast
    part."""
    factor: float = 1.0
    """How many times longer the context became; unused by ``default``."""
    fraction: float = 1.0
    """Share of a head's dimensions that turn, the first ones; the others pass."""
    interleaved: bool = False
    """Whether dimensions 2i and 2i + 1 are a pair, rather than i and i + half of those that turn."""

    low_freq_factor: float = 1.0
    """``llama3``: wavelengths above original_max_positions / this are divided by `factor`."""
    high_freq_factor: float = 4.0
    """``llama3``: wavelengths below original_max_positions / this stay; those between are blended."""
    original_max_positions: int = 8192
    """Context length, in tokens, the model was first trained with; ``llama3``, ``yarn`` and ``longrope``."""

    beta_fast: float = 32.0
    """``yarn``: pairs that turn more often than this in the original context keep their frequency."""
    beta_slow: float = 1.0
    """``yarn``: pairs that turn less often are divided by `factor`; those between lie on a ramp."""
    truncate: bool = True
    """``yarn``: whether the ramp begins and ends at whole pairs."""
    magnitude: float = 1.0
    """Factor on cosine and sine, so on queries and keys; ``yarn`` and ``longrope``."""

    short_factors: tuple[float, ...] = ()
    """``longrope``: divisors of the frequencies in documents of at most `original_max_positions` tokens."""
    long_factors: tuple[float, ...] = ()
    """``longrope``: divisors in longer documents."""

    def __post_init__(self) -> None:
        """Refuses values that have no meaning."""
        if not (0 < self.theta < math.inf and 0 < self.factor < math.inf and self.original_max_positions > 0):
            raise ConfigError(
                "`theta`, `factor` and `original_max_positions` of rope must be positive; "
                f"got {self.theta}, {self.factor} and {self.original_max_positions}."
            )
        if not 0 < self.fraction <= 1:
            raise ConfigError(f"`fraction` of rope must be in (0, 1]; got {self.fraction}.")
        if self.kind == "llama3" and not 0 < self.low_freq_factor < self.high_freq_factor:
            raise ConfigError(
                "llama3 rope needs 0 < `low_freq_factor` < `high_freq_factor`; "
                f"got {self.low_freq_factor} and {self.high_freq_factor}."
            )

    def rotary_dims(self, head_dim: int) -> int:
        """Returns how many of a head's dimensions the tables reach."""
        return head_dim if self.kind == "proportional" else int(head_dim * self.fraction)


class RopeTables(NamedTuple):
    """Cosine and sine of every angle at every position, float32."""

    cos: Float[Array, "B T half"]
    sin: Float[Array, "B T half"]


def rope_frequencies(config: RopeConfig, head_dim: int, *, long: bool = False) -> np.ndarray:
    """Returns the [half] float32 angles, in radians per position, of one rope.

    Pair i rotates by ``theta ** (-2 i / dims)``, dims the dimensions that turn (``proportional``: the whole head).
    References: Su et al., RoFormer, 2021, https://arxiv.org/abs/2104.09864, eq. 15; Chen et al., Position
    Interpolation, 2023, https://arxiv.org/abs/2306.15595 (linear); Llama 3.1 model card and reference code (llama3);
    Peng et al., YaRN, 2023, https://arxiv.org/abs/2309.00071, eq. 23; Ding et al., LongRoPE, 2024,
    https://arxiv.org/abs/2402.13753.

    Args:
        config: The rope.
        head_dim: Width of a head.
        long: ``longrope``: for documents longer than the original context.
    """
    dims = config.rotary_dims(head_dim)
    frequencies = 1.0 / config.theta ** (np.arange(0, dims, 2, dtype=np.float32) / np.float32(dims))
    if config.kind == "linear":
        frequencies = frequencies / config.factor
    elif config.kind == "llama3":
        frequencies = _llama3(frequencies, config)
    elif config.kind == "yarn":
        frequencies = _yarn(frequencies, config, dims)
    elif config.kind == "longrope":
        frequencies = frequencies / np.asarray(config.long_factors if long else config.short_factors, np.float32)
    elif config.kind == "proportional":
        frequencies = frequencies / config.factor
        frequencies[int(config.fraction * head_dim // 2) :] = 0
    return frequencies.astype(np.float32)


def rope_tables(
    config: RopeConfig, head_dim: int, positions: Int[Array, "B T"], lengths: Int[Array, "B T"] | None = None
) -> RopeTables:
    """Returns cosine and sine of every angle at every position.

    Args:
        config: The rope.
        head_dim: Width of a head.
        positions: Of the tokens.
        lengths: ``longrope``: tokens of each token's document; None = those up to itself.
    """
    frequencies = jnp.asarray(rope_frequencies(config, head_dim))[None, None, :]
    if config.kind == "longrope":
        long = (positions + 1 if lengths is None else lengths) > config.original_max_positions
        of_long = jnp.asarray(rope_frequencies(config, head_dim, long=True))[None, None, :]
        frequencies = jnp.where(long[..., None], of_long, frequencies)
    angles = positions.astype(jnp.float32)[..., None] * frequencies
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    if config.magnitude == 1.0:
        return RopeTables(cos, sin)
    return RopeTables(cos * jnp.float32(config.magnitude), sin * jnp.float32(config.magnitude))


def apply_rope(
    x: Float[Array, "B T H K"],
    cos: Float[Array, "B T half"],
    sin: Float[Array, "B T half"],
    *,
    interleaved: bool = False,
) -> Float[Array, "B T H K"]:
    """Turns each pair of the first ``2 half`` dimensions of ``x`` by its angle; the other dimensions pass.

    A pair is (i, i + half), or (2i, 2i + 1) where ``interleaved``. Computed in float32, returned in the dtype of ``x``.
    """
    half = cos.shape[-1]
    rotating, passing = x[..., : 2 * half].astype(jnp.float32), x[..., 2 * half :]
    cos, sin = cos[:, :, None, :], sin[:, :, None, :]
    first, second = (rotating[..., ::2], rotating[..., 1::2]) if interleaved else jnp.split(rotating, 2, axis=-1)
    rotated = (first * cos - second * sin, second * cos + first * sin)
    side_by_side = jnp.stack(rotated, axis=-1).reshape(rotating.shape) if interleaved else jnp.concatenate(rotated, -1)
    whole = side_by_side.astype(x.dtype)
    return jnp.concatenate((whole, passing), axis=-1) if passing.shape[-1] else whole


def _llama3(frequencies: np.ndarray, config: RopeConfig) -> np.ndarray:
    rotations = config.original_max_positions * frequencies / (2 * math.pi)
    blend = (rotations - config.low_freq_factor) / (config.high_freq_factor - config.low_freq_factor)
    blend = np.clip(blend, 0.0, 1.0)
    return (1 - blend) * frequencies / config.factor + blend * frequencies


def _yarn(frequencies: np.ndarray, config: RopeConfig, dims: int) -> np.ndarray:
    def pair_that_rotates(times: float) -> float:
        wavelength = config.original_max_positions / (times * 2 * math.pi)
        return dims * math.log(wavelength) / (2 * math.log(config.theta))

    first, last = pair_that_rotates(config.beta_fast), pair_that_rotates(config.beta_slow)
    if config.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, dims - 1)
    ramp = np.arange(dims // 2, dtype=np.float32) - np.float32(first)
    slow = np.clip(ramp / np.float32(last - first if last != first else 0.001), 0.0, 1.0)
    return frequencies / config.factor * slow + frequencies * (1 - slow)
