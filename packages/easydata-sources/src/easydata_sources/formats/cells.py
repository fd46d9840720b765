"""Columns that somebody else wrote: nothing in them is used before Arrow has checked that it points where it may.

Arrow trusts offsets, lengths and text of a file. Used unchecked, damaged ones end the process or become other rows'
bytes; and some sound values have no counterpart in Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from easydata_sources.formats.column_names import repeated_names

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """Why a row of a batch cannot be used."""

    column: str | None = None
    """Column that holds the value; None = the row as a whole."""
    found: str = ""
    """What is there."""
    bytes: int | None = None
    """Its size, if that is the reason."""


def faulty_rows(batch: pa.RecordBatch, largest: int) -> Mapping[int, Fault]:
    """Returns the rows of a batch that are damaged, that Python cannot hold, or that have more than `largest` bytes."""
    found: dict[int, Fault] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        for index, said in _faulty_cells(column):
            found.setdefault(index, Fault(column=name, found=said))
    # Only sound rows have a size that may be asked for.
    for start, stop in good_runs(found, batch.num_rows):
        for index, size in _too_large(batch, start, stop, largest):
            found[index] = Fault(bytes=size)
    return found


def good_runs(faults: Mapping[int, Fault], rows: int) -> Iterator[tuple[int, int]]:
    """Yields (first, behind the last) of every run of rows between the faulty ones."""
    start = 0
    for index in [*sorted(faults), rows]:
        if start < index:
            yield start, index
        start = index + 1


def _faulty_cells(column: pa.Array) -> Iterator[tuple[int, str]]:
    check = _convert if _may_not_fit(column.type) else _validate
    if check(column) is None:
        return
    stack = [(0, len(column))]
    while stack:
        start, stop = stack.pop()
        said = check(_by_itself(column.slice(start, stop - start)))
        if said is None:
            continue
        if stop - start == 1:
            yield start, said
            continue
        middle = (start + stop) // 2
        stack += [(middle, stop), (start, middle)]


def _by_itself(column: pa.Array) -> pa.Array:
    """Returns a slice without the values inside lists and dictionaries of other rows, which are checked too.

    Unsound slices come back as they are.
    """
    import pyarrow as pa

    kind = column.type
    try:
        column.validate()  # first and last offset
        if pa.types.is_struct(kind):
            inner = [_by_itself(child) for child in column.flatten()]
            return pa.StructArray.from_arrays(inner, fields=_fields(kind))
        if pa.types.is_dictionary(kind):
            column.indices.validate(full=True)
            return column.dictionary.take(column.indices)
        if pa.types.is_map(kind):
            first, offsets = _own_offsets(column)
            inner = [_by_itself(child.slice(*first)) for child in (column.keys, column.items)]
            return pa.MapArray.from_arrays(offsets, *inner)
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            first, offsets = _own_offsets(column)
            return type(column).from_arrays(offsets, _by_itself(column.values.slice(*first)))
    except (pa.ArrowException, ValueError):
        pass
    return column


def _own_offsets(column: pa.Array) -> tuple[tuple[int, int], pa.Array]:
    """Returns (first value, how many) of the lists of a slice, and their offsets counted from there."""
    import pyarrow as pa

    offsets = column.offsets.to_numpy()
    first, last = int(offsets[0]), int(offsets[-1])
    return (first, last - first), pa.array(offsets - first, column.offsets.type)


def _validate(column: pa.Array) -> str | None:
    """Returns what is wrong with a column, if anything."""
    import pyarrow as pa

    try:
        column.validate(full=True)
    except (pa.ArrowException, UnicodeError, OSError, ValueError) as error:
        return _line(error)
    return None


def _convert(column: pa.Array) -> str | None:
    said = _validate(column)
    if said is not None:
        return said
    try:
        column.to_pylist()
    except Exception as error:  # noqa: BLE001 - whatever time zones, calendars and other libraries raise
        return f"a value of type {column.type} that Python cannot hold ({_line(error)})"
    return None


def _line(error: Exception) -> str:
    return " ".join(f"{error}".split())[:200] or type(error).__name__


def _may_not_fit(kind: pa.DataType) -> bool:
    """Returns whether a type has values that Python lacks.

    Those are times beyond its calendar or finer than its clock, unknown zones, and structs with fields of one name.
    """
    import pyarrow as pa

    if pa.types.is_temporal(kind) or isinstance(kind, pa.BaseExtensionType):
        return True
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _may_not_fit(kind.value_type)
    if pa.types.is_map(kind):
        return _may_not_fit(kind.key_type) or _may_not_fit(kind.item_type)
    if pa.types.is_struct(kind) and repeated_names([field.name for field in _fields(kind)]):
        return True
    return any(_may_not_fit(field.type) for field in _fields(kind))


def _fields(kind: pa.DataType) -> list[pa.Field]:
    return [kind.field(index) for index in range(kind.num_fields)]


def _too_large(batch: pa.RecordBatch, start: int, stop: int, largest: int) -> Iterator[tuple[int, int]]:
    """Yields (row, its bytes), looking closer only at parts that are large enough to hold such a row."""
    stack = [(start, stop)]
    measure: Callable[[pa.RecordBatch], int] = _bytes
    while stack:
        start, stop = stack.pop()
        size = measure(batch.slice(start, stop - start))
        if size <= largest:
            continue
        if stop - start == 1:
            yield start, size
            continue
        middle = (start + stop) // 2
        stack += [(middle, stop), (start, middle)]


def _bytes(batch: pa.RecordBatch) -> int:
    import pyarrow as pa

    # The values of a dictionary are not a row's own.
    columns = (column.indices if pa.types.is_dictionary(column.type) else column for column in batch.columns)
    return sum(column.nbytes for column in columns)
