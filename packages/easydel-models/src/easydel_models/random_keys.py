"""Keys of random numbers from seeds of any size.

``jax.random.key`` looks at the lowest 32 bits of a seed alone (seed 2³² is seed 0), and knows none from 2⁶³ on. Here
every bit counts: what lies above the lowest 32 bits is folded into the key, 32 bits at a time. Smaller seeds give JAX's
own keys.
"""

from __future__ import annotations

import operator

import jax
from jax import Array

__all__ = ["key_of_seed"]

_WORD = (1 << 32) - 1


def key_of_seed(seed: int) -> Array:
    """Returns the root key of a seed: any integer; two seeds have two keys.

    Raises:
        TypeError: If it is no integer.
    """
    seed = operator.index(seed)
    key = jax.random.key(seed & _WORD)
    rest = seed >> 32
    while rest not in (0, -1):
        key = jax.random.fold_in(key, rest & _WORD)
        rest >>= 32
    # Folded in twice, a sign is told from a word.
    return jax.random.fold_in(jax.random.fold_in(key, _WORD), 0) if rest else key
