"""Columns that folders name: `lang=en/year=2024/part-0.parquet`, as Hive and every engine after it writes them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from easydata_sources.bad_rows.bad_row import BadRow
from easydata_sources.storage.files import DataFile
from easydata_sources.types import Rows

Partition: TypeAlias = Mapping[str, "int | str | None"]
"""The value that each of the columns has in all rows of one file."""

_NULL = "__HIVE_DEFAULT_PARTITION__"
_WHOLE_NUMBER = re.compile(r"[+-]?\d{1,18}", re.ASCII)


def partitions_of(files: Sequence[DataFile]) -> list[Partition]:
    """Returns the columns that the folders of each file name.

    A column whose values are whole numbers in all files holds numbers; any other holds text.
    """
    named = [file.partitions for file in files]
    texts: dict[str, set[str]] = {}
    for columns in named:
        for name, text in columns.items():
            texts.setdefault(name, set()).add(text)
    numbers = {name for name, found in texts.items() if all(map(_WHOLE_NUMBER.fullmatch, found - {_NULL}))}
    return [
        {name: None if text == _NULL else int(text) if name in numbers else text for name, text in columns.items()}
        for columns in named
    ]


def add_partition(rows: Rows, partition: Partition) -> Rows:
    """Returns the rows with these columns behind their own; a column that they have themselves stays as it is."""
    import pyarrow as pa

    if isinstance(rows, list):
        return [row if isinstance(row, BadRow) else {**row, **_lacking(partition, row)} for row in rows]
    batch = rows
    for name, value in partition.items():
        if name not in batch.schema.names:
            kind = pa.int64() if isinstance(value, int) else pa.string()
            batch = batch.append_column(name, pa.repeat(pa.scalar(value, kind), batch.num_rows))
    return batch


def _lacking(partition: Partition, row: Mapping[str, object]) -> Partition:
    return {name: value for name, value in partition.items() if name not in row}
