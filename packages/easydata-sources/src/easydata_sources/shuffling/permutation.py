"""A keyed permutation of 0…n-1 that is computed, not stored: row p of the shuffled order is `permute(p)`.

A Feistel network permutes the numbers below a power of four that is at least n; numbers that land outside
are sent through again until they land inside ("cycle walking"), which keeps it a permutation. No memory, no
state, the same on every machine: a shuffle can be resumed anywhere.

References:
    M. Luby and C. Rackoff, "How to construct pseudorandom permutations from pseudorandom functions", 1988.
    J. Black and P. Rogaway, "Ciphers with arbitrary finite domains", 2002, section 3 (cycle walking).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from easydata_sources.errors import DataError

if TYPE_CHECKING:
    import numpy as np

_ROUNDS = 6
_SHIFTS = (30, 27, 31)
_FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_WHOLE_ROWS = 1 << 14
_MASK = (1 << 64) - 1
_FURTHER_BITS = 0xD1B54A32D192ED03
_BELOW_ZERO = 0x8CB92BA72F3D8DD7


def permute(positions: np.ndarray, size: int, key: int) -> np.ndarray:
    """Returns where the positions are sent by the permutation of 0…size-1 with this key.

    Args:
        positions: int64[n], each in 0…size-1.
        size: How many numbers are permuted; at least 1.
        key: See `mix_key`.

    Returns:
        int64[n], each in 0…size-1; different for different positions.
    """
    if size <= _WHOLE_ROWS:
        return _whole(size, key)[positions]
    return _permute(positions, size, key)


@lru_cache(maxsize=32)
def _whole(size: int, key: int) -> np.ndarray:
    """Returns where all of 0…size-1 are sent: walking a table costs less than encrypting again and again."""
    import numpy as np

    half, keys = _cipher(size, key)
    table = _encrypt(np.arange(1 << 2 * int(half), dtype=np.uint64), half, keys)
    return _walked(table[:size].copy(), size, table.__getitem__)


def _permute(positions: np.ndarray, size: int, key: int) -> np.ndarray:
    import numpy as np

    half, keys = _cipher(size, key)
    encrypt = partial(_encrypt, half=half, keys=keys)
    return _walked(encrypt(positions.astype(np.uint64)), size, encrypt)


def _cipher(size: int, key: int) -> tuple[np.uint64, list[np.uint64]]:
    """Returns the bits of half a number, and the keys of the rounds."""
    import numpy as np

    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    return half, [np.uint64(mix_key(key, number)) for number in range(_ROUNDS)]


def _walked(values: np.ndarray, size: int, encrypt: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Sends the values that landed outside through again, until all are inside."""
    import numpy as np

    outside = np.flatnonzero(values >= size)
    while outside.size:
        values[outside] = walked = encrypt(values[outside])
        outside = outside[walked >= size]
    return values.astype(np.int64)


def mix_key(*parts: int) -> int:
    """Returns one 64-bit key from several integers of any size and sign; order matters, and every bit counts.

    Raises:
        DataError: If one of them is no integer.
    """
    key = 0x9E3779B97F4A7C15
    for part in parts:
        rest = _integer(part)
        key = _scramble((key ^ (rest & _MASK)) + 0x9E3779B97F4A7C15)
        if 0 <= rest <= _MASK:
            continue
        # What lies beyond 64 bits, and a sign, are mixed in with constants of their own: they are no further part.
        key = _scramble(key + (_BELOW_ZERO if rest < 0 else 0))
        rest = (rest if rest >= 0 else ~rest) >> 64
        while rest:
            key = _scramble((key ^ (rest & _MASK)) + _FURTHER_BITS)
            rest >>= 64
    return key


def _integer(part: int) -> int:
    try:
        if isinstance(part, bool):
            raise TypeError
        return operator.index(part)
    except TypeError:
        raise DataError(
            f"A seed and an epoch are whole numbers; found {part!r}.\n  mend: shuffle(seed=0, epoch=0)"
        ) from None


def _scramble(value: int) -> int:
    # The finalizer of splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
    # 2014).
    value &= _MASK
    for shift, factor in zip(_SHIFTS, _FACTORS, strict=False):
        value = ((value ^ (value >> shift)) * factor) & _MASK
    return value ^ (value >> _SHIFTS[-1])


def _encrypt(values: np.ndarray, half: np.uint64, keys: list[np.uint64]) -> np.ndarray:
    import numpy as np

    mask = (np.uint64(1) << half) - np.uint64(1)
    first, second, third = (np.uint64(shift) for shift in _SHIFTS)
    one, two = (np.uint64(factor) for factor in _FACTORS)
    left, right = values >> half, values & mask
    mixed, shifted = np.empty_like(left), np.empty_like(left)
    for key in keys:
        # The steps of `_scramble`, in place: allocating the arrays anew would take longer than filling them.
        np.add(right, key, out=mixed)
        mixed ^= np.right_shift(mixed, first, out=shifted)
        mixed *= one
        mixed ^= np.right_shift(mixed, second, out=shifted)
        mixed *= two
        mixed ^= np.right_shift(mixed, third, out=shifted)
        mixed &= mask
        mixed ^= left
        left, right, mixed = right, mixed, left
    return (left << half) | right
