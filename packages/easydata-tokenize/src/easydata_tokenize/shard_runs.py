"""Runs of rows, each as large as a shard may be: the borders are a function of the rows alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from easydata_sources.rows import rows_as_batch

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ShardLimits", "ShardRows", "next_shard"]

_BATCH_ROWS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardLimits:
    """When a shard is full.

    Attributes:
        max_bytes: of its columns in memory; a shard ends behind the batch of 256 rows that reaches it.
        max_rows: None = no limit.
    """

    max_bytes: int
    max_rows: int | None


@dataclass(frozen=True, slots=True)
class ShardRows:
    """The rows of one shard, and how many tokens they hold."""

    batches: list[pa.RecordBatch]
    rows: int
    tokens: int


def next_shard(rows: Iterator[Mapping[str, Any]], limits: ShardLimits, *, where: str) -> ShardRows | None:
    """Take the rows of the next shard; None if there are none left."""
    batches: list[pa.RecordBatch] = []
    taken = tokens = size = 0
    while size < limits.max_bytes and (limits.max_rows is None or taken < limits.max_rows):
        wanted = _BATCH_ROWS if limits.max_rows is None else min(_BATCH_ROWS, limits.max_rows - taken)
        found = [dict(row) for row in islice(rows, wanted)]
        if not found:
            break
        batch = rows_as_batch(found, where=where)
        batches.append(batch)
        taken, size, tokens = taken + len(found), size + batch.nbytes, tokens + _tokens(batch)
    return ShardRows(batches, taken, tokens) if batches else None


def _tokens(batch: pa.RecordBatch) -> int:
    """Tokens in `input_ids`, or else in every list column whose name ends in `_ids`."""
    names = [name for name in batch.schema.names if name == "input_ids"]
    names = names or [name for name in batch.schema.names if name.endswith("_ids")]
    columns = [batch.column(name) for name in names]
    return sum(len(column.flatten()) for column in columns if hasattr(column, "flatten") and column.type.num_fields)
