"""The order of a mixture by tokens from known lengths alone, without reading."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from easydata_mix.order import Order, counts_of
from easydata_mix.plan import Planner
from easydata_mix.walk import Stop

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def token_orders(planner: Planner, rows: int, *, lengths: Sequence[NDArray[np.integer]], stop: Stop) -> Iterator[Order]:
    """Yield the sources of the first `rows` rows, block by block; fewer only if the mixture ends before.

    Args:
        planner: The plan.
        rows: How many.
        lengths: Tokens of each row of each source, in its order.
        stop: The stop policy.
    """
    used = [0] * len(lengths)

    def upcoming(source: int, index: int) -> int | None:
        place, known = used[source] + index, lengths[source]
        if place >= len(known) and stop != "restart":
            return None
        return int(known[place % len(known)])

    place = planner.start()
    while rows > 0 and (planned := planner.token_block(place, upcoming)) is not None:
        block, exhausted = planned
        yield block.order[:rows]
        rows -= len(block.order)
        used = [before + more for before, more in zip(used, counts_of(block.order, len(used)), strict=True)]
        if exhausted is None:
            place = planner.after(block)
        elif stop == "first_exhausted":
            return
        else:
            place = planner.without(place, exhausted, block.stop)
