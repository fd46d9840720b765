"""Rows as lines of JSON, exactly as they are: no column has one type for all rows, and no key is padded in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from easydata_sources.errors import DataFormatError
from easydata_sources.rows import without_padding

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["LINE", "TOKENS", "rows_as_lines"]

LINE, TOKENS = "line", "tokens"


def rows_as_lines(rows: Sequence[Mapping[str, Any]], *, where: str, first_row: int) -> pa.RecordBatch:
    """Returns a batch of `line` (text without its end) and `tokens` (uint32: tokens of the row; null if it has none).

    Args:
        rows: the rows.
        where: what error messages call the data.
        first_row: number of the first one.

    Raises:
        DataFormatError: If JSON has no word for a value; names row and column.
    """
    import pyarrow as pa

    lines = [_line(row, where, first_row + number) for number, row in enumerate(rows)]
    tokens = pa.array([_tokens(row) for row in rows], pa.uint32())
    return pa.RecordBatch.from_arrays([pa.array(lines, pa.large_string()), tokens], names=[LINE, TOKENS])


def _line(row: Mapping[str, Any], where: str, number: int) -> str:
    try:
        return _text(without_padding(dict(row)))
    except (TypeError, ValueError, RecursionError) as error:
        column = next((name for name in row if not _is_json(row[name])), None)
        value = row.get(column) if column is not None else row
        raise DataFormatError(
            "JSON has no word for a value.",
            file=where,
            row=number,
            column=None if column is None else str(column),
            found=f"{type(value).__name__} {str(value)[:60]!a} ({error})"[:200],
            expected="texts, numbers, true, false, null, lists and dicts of them",
            mend=f'write format="parquet", or .map(lambda row: {{**row, {column!r}: str(row[{column!r}])}})',
        ) from error


def _text(value: Any) -> str:
    text = json.dumps(value, default=_plain, ensure_ascii=False)
    text.encode()  # half of a surrogate pair is no text
    return text


def _is_json(value: Any) -> bool:
    try:
        _text(without_padding(value))
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "iufbUO":
        return value.tolist()
    raise TypeError(f"no JSON for {type(value).__name__}")


def _tokens(row: Mapping[str, Any]) -> int | None:
    if "input_ids" in row:
        return len(row["input_ids"]) if isinstance(row["input_ids"], list | tuple | np.ndarray) else None
    columns = [value for name, value in row.items() if str(name).endswith("_ids")]
    lists = [value for value in columns if isinstance(value, list | tuple | np.ndarray)]
    return sum(map(len, lists)) if lists else None
