"""How many rows are trained on, where that shows only in reading them."""

from __future__ import annotations

import copy
import itertools
import logging
import math

from easydata_mix import MixedShardedSource
from easydata_sources import CountingTransform, ShardedDataSource
from easydata_sources.bad_rows.policy import SetAside

from easydel_trainers.data.epochs import EpochRows

_LOG = logging.getLogger(__name__)


def count_trained(
    source: ShardedDataSource,
    transform: CountingTransform,
    *,
    epochs: float,
    shuffle_seed: int | None,
    bad_rows: SetAside | None,
) -> int:
    """Returns rows that a run of some epochs trains on; reads the data once, or as often as its epochs differ.

    Args:
        source: the rows.
        transform: makes trainable rows of them, none or several of one.
        epochs: passes over the source, the last one maybe a fraction.
        shuffle_seed: seed of the epochs' orders; `None` = file order.
        bad_rows: what takes out rows that cannot be read; `None` = they raise.
    """
    whole = 0 if source.is_endless else math.floor(epochs)
    of_epoch = 0
    if whole:
        once = EpochRows(source, transform, epochs=1, shuffle_seed=None, bad_rows=bad_rows)
        of_epoch = sum(1 for _ in once)
    if whole == epochs:
        return whole * of_epoch
    begin = {"epoch": whole, "consumed": 0, "rows": None}
    rest = EpochRows(source, transform, epochs=epochs, shuffle_seed=shuffle_seed, bad_rows=bad_rows, state=begin)
    return whole * of_epoch + sum(1 for _ in rest)


def source_rows_per_step(source: MixedShardedSource, transform: CountingTransform, rows_per_step: int) -> int:
    """Returns rows of a mixture that one step reads, by which a schedule that counts steps is timed.

    Args:
        source: the mixture.
        transform: a new one of its rows; may pack several into one.
        rows_per_step: transformed rows of a step.
    """
    if not (transform.mixes_rows and source.counts_steps):
        return rows_per_step
    probe = copy.copy(source)
    probe.bind(rows_per_step=rows_per_step)
    window = list(itertools.islice(probe.rows(), transform.batch_rows))
    packs = sum(map(len, transform.transform_batch(window)))
    rows = max(1, round(rows_per_step * len(window) / max(packs, 1)))
    _LOG.info("The mixture's schedule counts steps: by its first %d rows, one of %d rows.", len(window), rows)
    return rows
