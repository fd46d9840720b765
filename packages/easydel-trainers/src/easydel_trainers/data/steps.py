"""The stream of steps: rows in order, `total_batch_size` at a time, arranged and put on the device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import jax

from easydel_trainers.data.epochs import EpochRows
from easydel_trainers.data.layout import Arrays, StepLayout


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedStep:
    """The input of one optimizer step and where the data stream stands behind it.

    Attributes:
        arrays: on the device, `[micro-batches, lines, length]` each.
        tokens: real tokens in it.
        places: places in its arrays, empty ones included.
        epoch: number of the epoch that its last row belongs to, from 0.
        data_state: position behind this step.
    """

    arrays: dict[str, jax.Array]
    tokens: int
    places: int
    epoch: int
    data_state: dict[str, Any]


def prepared_steps(rows: EpochRows, layout: StepLayout, *, rows_per_step: int) -> Iterator[PreparedStep]:
    """Steps until the rows end; the last one may hold fewer rows."""
    while taken := list(islice(rows, rows_per_step)):
        arrays = layout.arrange(taken)
        yield PreparedStep(
            arrays=jax.device_put(arrays),
            tokens=count_tokens(arrays),
            places=arrays["input_ids"].size,
            epoch=rows.epoch,
            data_state=rows.state(),
        )


def count_tokens(arrays: Arrays) -> int:
    """Real tokens in an arrangement."""
    return int((arrays["segment_ids"] > 0).sum())
