"""The columns of a shard: those of all its groups of rows, each of one type that holds every value exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from easydata_sources.errors import DataFormatError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["joined_schema", "retyped", "with_columns"]


def joined_schema(before: pa.Schema, new: pa.Schema, *, where: str) -> pa.Schema:
    """Returns the columns of both; where types differ, the one that holds the values of both.

    Raises:
        DataFormatError: If there is no such type; names the column.
    """
    import pyarrow as pa

    try:
        return pa.unify_schemas([before, new], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        shared = [name for name in new.names if name in before.names and before.field(name) != new.field(name)]
        column = next((name for name in shared if not _fit(before.field(name), new.field(name))), None)
        found = str(error) if column is None else f"{before.field(column).type}, then {new.field(column).type}"
        raise _several_types(column, found, where) from error


def retyped(before: pa.Schema, joined: pa.Schema) -> bool:
    """Returns whether a column has another type than it had, so that values must be shown to fit."""
    return any(joined.field(field.name).type != field.type for field in before)


def with_columns(rows: pa.Table | pa.RecordBatch, schema: pa.Schema, *, where: str) -> pa.Table:
    """Returns rows with all columns of their shard, nulls where they have none.

    Raises:
        DataFormatError: If a value cannot be kept exactly in its column's type; names the column.
    """
    import pyarrow as pa

    table = rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])
    if not table.num_columns:  # rows without fields, which joining would lose
        missing = {field.name: pa.nulls(table.num_rows, field.type) for field in schema}
        return pa.table(missing, schema=schema) if missing else table
    table = table.replace_schema_metadata(None)
    try:
        return pa.concat_tables([schema.empty_table(), table], promote_options="permissive").combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        for name in table.column_names:
            one = pa.schema([schema.field(name)])
            try:
                pa.concat_tables([one.empty_table(), table.select([name])], promote_options="permissive")
            except pa.ArrowException as reason:
                raise _several_types(name, f"values kept as {one.field(name).type}: {reason}", where) from error
        raise _several_types(None, str(error), where) from error


def _fit(one: pa.Field, other: pa.Field) -> bool:
    import pyarrow as pa

    try:
        pa.unify_schemas([pa.schema([one]), pa.schema([other])], promote_options="permissive")
    except pa.ArrowException:
        return False
    return True


def _several_types(column: str | None, found: str, where: str) -> DataFormatError:
    name = column if column is not None else "name"
    return DataFormatError(
        "Rows of one shard hold a column in several types.",
        file=where,
        column=column,
        found=found[:300],
        expected="one type in every row, as a file of columns has (nulls are allowed)",
        mend=f'format="jsonl", or .map(lambda row: {{**row, {name!r}: str(row[{name!r}])}})',
    )
