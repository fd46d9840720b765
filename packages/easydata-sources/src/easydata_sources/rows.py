"""A run of rows, held either as Python dicts or as one Arrow record batch.

Formats that are columns on disk (Parquet, Arrow, HF data sets) stay columns until a reader asks for dicts;
formats that are objects on disk (JSON lines) stay exact dicts, because Arrow would fill the keys a row
lacks with nulls. The functions here are the only places where one becomes the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from easydata_sources.errors import DataFormatError
from easydata_sources.types import Row, Rows

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray


class ArrowStruct(dict[str, Any]):
    """A dict inside a row that was an Arrow struct: it has the keys of all its column, null where it lacked them.

    A null in a plain dict is data, as in JSON; in one of these it may be padding, and nothing else tells.
    """


def rows_as_dicts(rows: Rows) -> list[Row]:
    """Returns the run as a list of dicts (the same list if it already is one), structs in them as `ArrowStruct`."""
    if isinstance(rows, list):
        return rows
    dicts = rows.to_pylist()
    nested = [field.name for field in rows.schema if _holds_structs(field.type)]
    for row in dicts if nested else ():
        for name in nested:
            row[name] = as_arrow_structs(row[name])
    return dicts


def as_arrow_structs(value: Any) -> Any:
    """Returns a value of a row with every dict in it as an `ArrowStruct`."""
    if isinstance(value, dict):
        return ArrowStruct({key: as_arrow_structs(item) for key, item in value.items()})
    if isinstance(value, list):
        return [as_arrow_structs(item) for item in value]
    return value


def without_padding(value: Any) -> Any:
    """Returns a value with the nulls that Arrow may have padded in left out, in plain dicts and lists.

    >>> without_padding([{"unit": None}, ArrowStruct(unit=None)])
    [{'unit': None}, {}]
    """
    if isinstance(value, dict):
        padded = isinstance(value, ArrowStruct)
        return {key: without_padding(item) for key, item in value.items() if item is not None or not padded}
    if isinstance(value, list | tuple):
        return [without_padding(item) for item in value]
    return value


def rows_as_batch(rows: Rows, *, where: str) -> pa.RecordBatch:
    """Returns the run as one record batch; columns are the union of the rows' keys in order of appearance.

    Args:
        rows: The run.
        where: Where it comes from, for the error message.

    Raises:
        DataFormatError: If a column mixes types that no Arrow type holds; names the column.
    """
    import pyarrow as pa

    if not isinstance(rows, list):
        return rows
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not names:
        return _batch_without_columns(len(rows))
    return pa.RecordBatch.from_arrays([_column(rows, name, where) for name in names], names=names)


def slice_rows(rows: Rows, start: int, stop: int) -> Rows:
    """Returns rows `start` to `stop` of the run, without copying values."""
    return rows[start:stop] if isinstance(rows, list) else rows.slice(start, stop - start)


def take_rows(rows: Rows, indices: Sequence[int] | NDArray[np.integer]) -> Rows:
    """Returns the rows at `indices`, in that order."""
    import pyarrow as pa

    if isinstance(rows, list):
        return [rows[index] for index in indices]
    try:
        return rows.take(pa.array(indices, type=pa.int64()))
    except pa.ArrowNotImplementedError:  # views and run-end encodings, at any depth
        return _take_singly(rows, indices)


def concat_rows(runs: Sequence[Rows]) -> Rows:
    """Returns runs joined, every row as it was: as columns where all runs have the same ones, else as dicts."""
    if len(runs) == 1:
        return runs[0]
    batches = [run for run in runs if not isinstance(run, list)]
    if len(batches) == len(runs) and all(batch.schema.equals(batches[0].schema) for batch in batches):
        return _joined(batches)
    # Joined as columns, a key that a row lacks would become a null, and a whole number a float.
    return [row for run in runs for row in rows_as_dicts(run)]


def batch_of(runs: Sequence[Rows], *, where: str) -> pa.RecordBatch:
    """Returns runs as one record batch with the union of their columns, null where a row lacks one.

    Args:
        runs: At least one.
        where: Where they come from, for the error message.

    Raises:
        DataFormatError: If a column mixes types that no Arrow type holds; names the column.
    """
    batches = [run for run in runs if not isinstance(run, list)]
    if len(batches) == len(runs) and _have_like_columns(batches):
        return batches[0] if len(batches) == 1 else _joined(batches)
    return rows_as_batch(concat_rows(runs), where=where)


def table_as_batch(table: pa.Table) -> pa.RecordBatch:
    """Returns a table as one record batch; columns of more than 2 GiB get the large twin of their type."""
    import pyarrow as pa

    if table.num_columns == 0:
        return _batch_without_columns(table.num_rows)
    joined = table.combine_chunks()
    batches = joined.to_batches()
    if len(batches) > 1:  # text and lists count their bytes and values in 31 bits
        batches = widened(joined).combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def widened(table: pa.Table) -> pa.Table:
    """Returns a table whose columns of several chunks have types that count in 63 bits."""
    for index, column in enumerate(table.columns):
        if column.num_chunks > 1:
            field = table.schema.field(index)
            table = table.set_column(index, field.with_type(_wide(field.type)), column.cast(_wide(field.type)))
    return table


def _wide(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    if pa.types.is_string(kind):
        return pa.large_string()
    if pa.types.is_binary(kind):
        return pa.large_binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_wide(kind.value_type)))
    if pa.types.is_struct(kind):
        fields = [kind.field(index) for index in range(kind.num_fields)]
        return pa.struct([field.with_type(_wide(field.type)) for field in fields])
    if pa.types.is_map(kind):
        return pa.map_(_wide(kind.key_type), kind.item_field.with_type(_wide(kind.item_type)))
    return kind


def is_padded(values: Sequence[Any]) -> bool:
    """Returns whether dicts of one list look as if Arrow had made them: all, at every depth, with equal keys, some
    null.

    For rows that came another way than through this package, such as a table's own list of dicts. JSON leaves absent
    keys out, so its dicts seldom have equal keys.
    """
    dicts = [value for value in values if isinstance(value, dict)]
    return len(dicts) > 1 and any(None in value.values() for value in dicts) and _have_equal_keys(dicts)


def _have_equal_keys(values: Sequence[Any]) -> bool:
    dicts = [value for value in values if isinstance(value, dict)]
    if any(value.keys() != dicts[0].keys() for value in dicts[1:]):
        return False
    held = [[value[key] for value in dicts] for key in dicts[0]] if dicts else []
    lists = [item for value in values if isinstance(value, list) for item in value]
    return all(map(_have_equal_keys, held)) and (not lists or _have_equal_keys(lists))


def _holds_structs(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return pa.types.is_struct(kind) or any(_holds_structs(kind.field(n).type) for n in range(kind.num_fields))


def _column(rows: list[Row], name: str, where: str) -> pa.Array:
    import pyarrow as pa

    values = [row.get(name) for row in rows]
    try:
        column = pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
        kinds = sorted({type(value).__name__ for value in values if value is not None})
        raise DataFormatError(
            "Rows of one column hold values that no single Arrow type can hold.",
            file=where,
            column=name,
            found=f"values of type {', '.join(kinds)} ({error})",
            expected="one type per column (nulls are allowed)",
            mend=f"read dict rows with .rows(), or convert the column first: "
            f".map(lambda row: {{**row, {name!r}: str(row[{name!r}])}})",
        ) from error
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _have_like_columns(batches: Sequence[pa.RecordBatch]) -> bool:
    """Returns whether columns of one name have one type in all batches, or hold nothing but nulls."""
    import pyarrow as pa

    types: dict[str, pa.DataType] = {}
    for batch in batches:
        for field in batch.schema:
            known = types.get(field.name, pa.null())
            if known != field.type and not pa.types.is_null(field.type) and not pa.types.is_null(known):
                return False
            types[field.name] = field.type if pa.types.is_null(known) else known
    return True


def _joined(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Returns batches with like columns as one."""
    import pyarrow as pa

    if not any(batch.num_columns for batch in batches):
        return _batch_without_columns(sum(batch.num_rows for batch in batches))
    return table_as_batch(pa.concat_tables(map(_as_table, batches), promote_options="default"))


def _as_table(batch: pa.RecordBatch) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_batches([batch.replace_schema_metadata()])


def _take_singly(batch: pa.RecordBatch, indices: Sequence[int] | NDArray[np.integer]) -> list[Row]:
    """Returns some rows as dicts, value by value."""
    wanted = [int(index) for index in indices]
    columns = [[column[index].as_py() for index in wanted] for column in batch.columns]
    names = batch.schema.names
    rows = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
    return [{name: as_arrow_structs(value) for name, value in row.items()} for row in rows]


def _batch_without_columns(rows: int) -> pa.RecordBatch:
    import pyarrow as pa

    # A batch with no columns cannot carry a row count through from_arrays; a struct array can.
    return pa.RecordBatch.from_struct_array(pa.array([{}] * rows, type=pa.struct([])))
