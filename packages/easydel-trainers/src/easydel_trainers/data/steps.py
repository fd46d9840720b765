"""The stream of steps: rows in order, `total_batch_size` at a time, arranged and put on the device."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from easydel_trainers.data.epochs import EpochRows
from easydel_trainers.data.layout import Arrays, Row
from easydel_trainers.step.device_mesh import put_batch
from easydel_trainers.step.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedStep:
    """The input of one optimizer step and where the data stream stands behind it.

    Attributes:
        arrays: on the device, `[micro-batches, bins, length]` each.
        tokens: real tokens of all its sequences.
        held: positions in its arrays that hold a token; fewer where sequences share prompts.
        padded_tokens: positions in its arrays, empty ones included.
        epoch: number of the epoch that its last row belongs to, from 0.
        ends_epoch: whether no row of that epoch is left; not always known.
        data_state: position behind this step.
        position: position before it, from which its rows can be read again; `None` = the beginning.
        batch: its number in data order, from 1. Steps and batches differ where batches are skipped.
        attended: see `count_attended`.
        measured: metrics known before the step; they join those that it returns.
    """

    arrays: dict[str, jax.Array]
    tokens: int
    held: int
    padded_tokens: int
    epoch: int
    data_state: dict[str, Any]
    ends_epoch: bool = False
    position: dict[str, Any] | None = None
    batch: int = 0
    attended: int = 0
    measured: Metrics = field(default_factory=dict)


def prepared_steps(
    rows: EpochRows,
    arrange: Callable[[Sequence[Row]], Arrays],
    *,
    rows_per_step: int,
    mesh: Mesh | None = None,
    batches_done: int = 0,
    skip: Collection[int] = (),
) -> Generator[PreparedStep, None, None]:
    """Yields steps until the rows end; the last one may hold fewer rows.

    Args:
        rows: in training order.
        arrange: a step's rows to arrays `[micro-batches, bins, length]`.
        rows_per_step: how many make a step.
        mesh: the devices they are put on; `None` = one device.
        batches_done: batches that lie before `rows`.
        skip: numbers of batches that are read and left out.
    """
    batch, position = batches_done, rows.state()
    while of_step := list(islice(rows, rows_per_step)):
        batch, before, position = batch + 1, position, rows.state()
        if batch in skip:
            continue
        arrays = arrange(of_step)
        yield PreparedStep(
            arrays=put_batch(arrays, mesh),
            tokens=count_tokens(arrays),
            held=count_held(arrays),
            padded_tokens=arrays["input_ids"].size,
            epoch=rows.epoch,
            ends_epoch=rows.ends_epoch,
            data_state=position,
            position=before,
            batch=batch,
            attended=count_attended(arrays),
        )


def count_tokens(arrays: Arrays) -> int:
    """Real tokens of all sequences in an arrangement; a prompt that several share counts for each of them."""
    held, prefix_ids = count_held(arrays), arrays.get("prefix_ids")
    if prefix_ids is None or not prefix_ids.any():
        return held
    begins = (prefix_ids > 0) & (np.diff(arrays["segment_ids"], prepend=0) != 0)
    copies = arrays["segment_ids"] >= prefix_ids[prefix_ids > 0].min()
    return held + int(arrays["positions"][begins].sum()) - int(copies.sum())


def count_held(arrays: Arrays) -> int:
    """Returns positions of an arrangement that hold a token."""
    return int((arrays["segment_ids"] > 0).sum())


def count_attended(arrays: Arrays) -> int:
    """Twice the pairs of tokens that a causal mask lets meet: rows' squares, but a shared prompt's own only once."""
    segments = arrays["segment_ids"].reshape(-1, arrays["segment_ids"].shape[-1])
    numbered = segments + (int(segments.max()) + 1) * np.arange(len(segments))[:, None]
    lengths = np.bincount(numbered[segments > 0])
    squares = int((lengths.astype(np.int64) ** 2).sum())
    if "prefix_ids" not in arrays:
        return squares
    behind = arrays["prefix_ids"].reshape(segments.shape) > 0
    own = np.bincount(numbered[behind]).astype(np.int64)
    # Positions behind a prompt of P tokens are P, P + 1, …, so that their sum is own * P + own * (own - 1) / 2.
    met = int(arrays["positions"].reshape(segments.shape)[behind].sum()) - int((own * (own - 1) // 2).sum())
    return squares + 2 * met
