"""The order of rows inside a block: a seeded shuffle that is a pure function of (seed, block, quotas).

The keys are raw words of the Philox cipher, whose stream NumPy guarantees for ever (its `permutation` may change
between versions), with the seed as the cipher's key and the block as its counter. So seed 43 has nothing to do with
seed 42, while seeding a generator with `seed + block` would make one the other shifted by a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING

from easydata_mix.errors import MixtureError
from easydata_mix.plan.types import Order

if TYPE_CHECKING:
    pass

_PURPOSE = 0x6D69782D6F726465  # separates these words from other users of the same seed


def check_seed(seed: int) -> int:
    """Returns the seed, or raises if it is not a whole number that fits the cipher's key."""
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= seed < 1 << 64:
        raise MixtureError(
            f"`seed` must be a whole number from 0 to 2**64 - 1; found {seed!r}. "
            "The order of a mixture is a function of its seed, so there is no unseeded one."
        )
    return int(seed)


def block_order(quotas: Sequence[int], *, seed: int, row: int) -> Order:
    """Returns the sources of a block's rows, each source as often as its quota says.

    Args:
        quotas: Rows of each source in the block.
        seed: The mixture's seed.
        row: Global index of the block's first row.
    """
    import numpy as np

    if sum(quotas) == 1:
        return np.array([quotas.index(1)], dtype=np.intp)
    sources = np.repeat(np.arange(len(quotas)), quotas)
    # As uint64: NumPy would make floats of a list whose numbers reach over 2**63, and then seeds near each other one.
    key, counter = np.array([seed, _PURPOSE], np.uint64), np.array([0, row, 0, 0], np.uint64)
    words = np.random.Philox(key=key, counter=counter).random_raw(len(sources))
    return sources[np.argsort(words, kind="stable")]


def counts_of(order: Order, sources: int) -> list[int]:
    """Returns how often each source occurs in an order."""
    import numpy as np

    return np.bincount(order, minlength=sources).tolist()


def concatenate(orders: Sequence[Order]) -> Order:
    """Returns one order after the other."""
    import numpy as np

    return np.concatenate(orders)


def first_unserved(order: Order, available: Sequence[int]) -> tuple[int, int] | None:
    """Returns (position, source) of the first draw that finds its source empty; None if all can be served.

    Args:
        order: Sources of the draws.
        available: Rows each source can still give.
    """
    import numpy as np

    wanted = np.bincount(order, minlength=len(available))
    short = np.flatnonzero(wanted > np.asarray(available)).tolist()
    cuts = [(int(np.flatnonzero(order == source)[available[source]]), source) for source in short]
    return min(cuts, default=None)
