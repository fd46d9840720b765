"""Adapters of linear layers that a file holds in one module: several of ours are one there, and the reverse.

Written together, adapters of n linear layers of the same inputs are one of n times the rank: A holds theirs one below
the other, B along its diagonal. One that `peft` made of the module shares its A among them.
"""

from collections.abc import Sequence

import numpy as np

from easydel_models.errors import LoraError


def block_diagonal(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the matrix that has the given ones along its diagonal and is 0 elsewhere."""
    rows, columns = np.cumsum([0, *(one.shape[0] for one in blocks)]), np.cumsum([0, *(one.shape[1] for one in blocks)])
    whole = np.zeros((rows[-1], columns[-1]), blocks[0].dtype)
    for number, block in enumerate(blocks):
        whole[rows[number] : rows[number + 1], columns[number] : columns[number + 1]] = block
    return whole


def split_adapter(
    a: np.ndarray, b: np.ndarray, columns: Sequence[int], rank: int, where: str
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the adapters of the linear layers that one module holds, as A [rank, in] and B [out, rank].

    Args:
        a: Of the module, [rank, in], or of as many times the rank as there are layers.
        b: Of the module, [out, rank] likewise.
        columns: Outputs of each layer.
        rank: Of ours.
        where: File and module, for messages.

    Raises:
        LoraError: If the module's adapter is of that many times the rank and mixes the layers.
    """
    parts = np.split(b, np.cumsum(columns)[:-1])
    if a.shape[0] == rank:
        return [(a, part) for part in parts]
    own = [part[:, number * rank : (number + 1) * rank] for number, part in enumerate(parts)]
    if not np.array_equal(block_diagonal(own), b):
        raise LoraError(
            f"{where} has an adapter of rank {a.shape[0]} that mixes its linear layers, which is not computed here; "
            "merge it with peft and load the result."
        )
    return list(zip(np.split(a, len(columns)), own, strict=True))
