"""How many micro-batches a step is split into: a number given, or as many as a budget of tokens asks for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from easydel_trainers.data.layout import Arrays, Layout, Row

MakeLayout = Callable[[int, int], Layout]


def arrange_by_budget(rows: Sequence[Row], make_layout: MakeLayout, *, rows_per_step: int, budget: int) -> Arrays:
    """Arrange a step's rows into the fewest micro-batches, a power of two of them, that fit a budget.

    Powers of two, so that a run compiles few shapes. A row that alone exceeds the budget is a micro-batch of its
    own.

    Args:
        rows: one step's.
        make_layout: from rows per micro-batch and number of micro-batches.
        rows_per_step: the step's full number of rows, which `rows` of the last step may fall short of.
        budget: positions of one micro-batch, empty ones included.
    """
    micro_batches = 1
    while True:
        layout = make_layout(math.ceil(rows_per_step / micro_batches), micro_batches)
        arrays = layout.arrange(rows)
        size = arrays["input_ids"].size // micro_batches
        if size <= budget or micro_batches >= rows_per_step:
            return arrays
        micro_batches = min(2 * micro_batches, rows_per_step)
