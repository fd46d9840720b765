"""The stream of steps: rows in order, `total_batch_size` at a time, arranged and put on the device."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from easydel_trainers.data.epochs import EpochRows
from easydel_trainers.data.layout import Arrays, Row
from easydel_trainers.device_mesh import put_batch


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedStep:
    """The input of one optimizer step and where the data stream stands behind it.

    Attributes:
        arrays: on the device, `[micro-batches, lines, length]` each.
        tokens: real tokens in it.
        places: places in its arrays, empty ones included.
        epoch: number of the epoch that its last row belongs to, from 0.
        data_state: position behind this step.
        position: position before it, from which its rows can be read again; `None` = the beginning.
        batch: its number in data order, from 1. Steps and batches differ where batches are skipped.
        attended: pairs of tokens that attention compares, were every token to see its whole row.
        measured: metrics known before the step, as (numerator, denominator); they join those that it returns.
    """

    arrays: dict[str, jax.Array]
    tokens: int
    places: int
    epoch: int
    data_state: dict[str, Any]
    position: dict[str, Any] | None = None
    batch: int = 0
    attended: int = 0
    measured: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def prepared_steps(
    rows: EpochRows,
    arrange: Callable[[Sequence[Row]], Arrays],
    *,
    rows_per_step: int,
    mesh: Mesh | None = None,
    batches_done: int = 0,
    skip: Collection[int] = (),
) -> Generator[PreparedStep, None, None]:
    """Steps until the rows end; the last one may hold fewer rows.

    Args:
        rows: in training order.
        arrange: a step's rows to arrays `[micro-batches, lines, length]`.
        rows_per_step: how many make a step.
        mesh: the devices they are put on; `None` = one device.
        batches_done: batches that lie before `rows`.
        skip: numbers of batches that are read and left out.
    """
    batch, position = batches_done, rows.state()
    while taken := list(islice(rows, rows_per_step)):
        batch, before, position = batch + 1, position, rows.state()
        if batch in skip:
            continue
        arrays = arrange(taken)
        yield PreparedStep(
            arrays=put_batch(arrays, mesh),
            tokens=count_tokens(arrays),
            places=arrays["input_ids"].size,
            epoch=rows.epoch,
            data_state=position,
            position=before,
            batch=batch,
            attended=count_attended(arrays),
        )


def count_tokens(arrays: Arrays) -> int:
    """Real tokens in an arrangement."""
    return int((arrays["segment_ids"] > 0).sum())


def count_attended(arrays: Arrays) -> int:
    """Sum over rows of the square of their tokens."""
    segments = arrays["segment_ids"].reshape(-1, arrays["segment_ids"].shape[-1])
    rows_per_line = int(segments.max()) + 1
    numbered = segments + rows_per_line * np.arange(len(segments))[:, None]
    lengths = np.bincount(numbered[segments > 0])
    return int((lengths.astype(np.int64) ** 2).sum())
