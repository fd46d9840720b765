"""Groups of rows, the unit that is written at once; their borders are a function of the rows alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from easydata_sources.errors import DataError
from easydata_sources.rows import batch_of, rows_as_batch
from numpy.typing import NDArray

from easydata_tokenize.shards.json_lines import LINE, TOKENS, rows_as_lines

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["RowGroup", "ShardLimits", "parse_size", "read_group", "token_lengths"]

_UNITS = {"": 1, "B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}
_BATCH_ROWS = 256
_GROUP_BYTES = 2**25


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardLimits:
    """When a shard is full, and a group of rows in it.

    Attributes:
        max_bytes: of a shard's columns in memory; it ends behind the batch of 256 rows that reaches it.
        max_rows: of a shard. None = no limit.
        group_rows: of a group; a group of 32 MiB in memory ends before.
    """

    max_bytes: int
    max_rows: int | None
    group_rows: int

    def __post_init__(self) -> None:
        if self.group_rows < 1:
            raise DataError(f"`row_group_size` must be at least 1; found {self.group_rows}.")


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Rows that are written at once.

    Attributes:
        rows: the rows.
        ended: whether the source had no more.
    """

    rows: pa.RecordBatch
    ended: bool


def read_group(
    rows: Iterator[Mapping[str, Any]],
    limits: ShardLimits,
    *,
    rows_before: int,
    bytes_before: int,
    where: str,
    lines: bool = False,
) -> RowGroup:
    """Returns the next group of rows; one without rows if the source had none.

    Args:
        rows: the source.
        limits: when shard and group are full.
        rows_before: rows in the shard before.
        bytes_before: bytes in the shard before.
        where: what error messages call the data.
        lines: whether the rows are wanted as lines of JSON, and not in columns.

    Raises:
        DataFormatError: If rows cannot be held in columns, or as JSON; names the column.
    """
    batches: list[pa.RecordBatch] = []
    count = held = 0
    ended = False
    while not ended and count < limits.group_rows and held < _GROUP_BYTES and bytes_before + held < limits.max_bytes:
        room = limits.group_rows - count
        room = room if limits.max_rows is None else min(room, limits.max_rows - rows_before - count)
        if room < 1:
            break
        found: list[Any] = list(islice(rows, min(_BATCH_ROWS, room)))
        ended = len(found) < min(_BATCH_ROWS, room)
        if found:
            first_row = rows_before + count
            batch = (
                rows_as_lines(found, where=where, first_row=first_row) if lines else rows_as_batch(found, where=where)
            )
            batches.append(batch)
            count, held = count + len(found), held + batches[-1].nbytes
    joined = batch_of(batches, where=where) if batches else rows_as_batch([], where=where)
    return RowGroup(joined, ended)


def token_lengths(batch: pa.RecordBatch) -> NDArray[np.uint32] | None:
    """Returns the tokens of every row: of `input_ids`, or else of all list columns whose names end in `_ids`.

    None if there is no such column.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if batch.schema.names == [LINE, TOKENS]:
        tokens = batch.column(TOKENS)
        return None if tokens.null_count or not len(tokens) else tokens.to_numpy(zero_copy_only=False)
    names = [name for name in batch.schema.names if name == "input_ids"]
    names = names or [name for name in batch.schema.names if name.endswith("_ids")]
    columns = [batch.column(name) for name in names if pa.types.is_list(batch.schema.field(name).type)]
    if not columns:
        return None
    counts = [
        pc.call_function("list_value_length", [column]).fill_null(0).to_numpy(zero_copy_only=False)
        for column in columns
    ]
    return np.sum(counts, axis=0).astype(np.uint32)


def parse_size(size: int | str) -> int:
    """Returns a number of bytes.

    >>> parse_size("500MB"), parse_size("1.5 GB"), parse_size(1000)
    (524288000, 1610612736, 1000)

    Raises:
        DataError: If it is no positive size.
    """
    text = str(size).strip().upper().replace("IB", "B")
    number = text.rstrip("BKMGT")
    unit = text[len(number) :]
    try:
        count = int(float(number) * _UNITS[unit])
    except (ValueError, KeyError):
        count = 0
    if count < 1:
        raise DataError(f'A size must be a positive number of bytes, or text like "500MB"; found {size!r}.')
    return count
