"""The lengths of rows in tokens, where weights are shares of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from easydata_sources.bad_rows.bad_row import BadRow
from easydata_sources.types import Rows

from easydata_mix.errors import MixtureError

if TYPE_CHECKING:
    import pyarrow as pa


def row_lengths(rows: Rows, source: str, length_field: str | None) -> list[int]:
    """Returns the tokens of each row: the values of the field of lengths, or the lengths of `input_ids`.

    Args:
        rows: The rows.
        source: Name of their source, for error messages.
        length_field: The field; None = `input_ids` counts.

    Raises:
        MixtureError: If rows have neither.
    """
    if not isinstance(rows, list):
        return _of_columns(rows, source, length_field)
    return [0 if isinstance(row, BadRow) else _of_row(row, source, length_field) for row in rows]


def _of_row(row: dict[str, Any], source: str, length_field: str | None) -> int:
    if length_field is not None and row.get(length_field) is not None:
        return int(row[length_field])
    if length_field is None and row.get("input_ids") is not None:
        return len(row["input_ids"])
    raise _unknown(source, length_field, list(row))


def _of_columns(batch: pa.RecordBatch, source: str, length_field: str | None) -> list[int]:
    import pyarrow.compute as pc

    name = length_field or "input_ids"
    column = batch.column(name) if name in batch.schema.names else None
    if column is None or column.null_count:
        raise _unknown(source, length_field, batch.schema.names)
    return (pc.call_function("list_value_length", [column]) if length_field is None else column).to_pylist()


def _unknown(source: str, length_field: str | None, fields: Sequence[str]) -> MixtureError:
    wanted = "`input_ids`" if length_field is None else f"`{length_field}`"
    return MixtureError(
        f"Shares of tokens need the length of every row, and a row of the source {source!r} has no {wanted}; it has "
        f"{', '.join(map(str, fields)) or 'no fields'}. Mix tokenized rows, or name a column that holds their lengths: "
        "length_field=…"
    )
