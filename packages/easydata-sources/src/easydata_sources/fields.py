"""Transforms that choose and rename the fields of a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from easydata_sources.errors import DataError
from easydata_sources.rows import Row
from easydata_sources.transform import Transform


class SelectFields(Transform):
    """Keeps only some fields; ones a row lacks are no error.

    >>> SelectFields(["a"])({"a": 1, "b": 2})
    {'a': 1}
    """

    def __init__(self, fields: Sequence[str]) -> None:
        self._fields = _names(fields)

    def __call__(self, row: Row) -> Row:
        return {name: row[name] for name in self._fields if name in row}


class DropFields(Transform):
    """Removes some fields; ones a row lacks are no error.

    >>> DropFields(["a"])({"a": 1, "b": 2})
    {'b': 2}
    """

    def __init__(self, fields: Sequence[str]) -> None:
        self._fields = frozenset(_names(fields))

    def __call__(self, row: Row) -> Row:
        return {name: value for name, value in row.items() if name not in self._fields}


class RenameFields(Transform):
    """Renames fields and keeps their order; ones a row lacks are no error.

    >>> RenameFields({"question": "prompt"})({"question": "1+1?", "answer": "2"})
    {'prompt': '1+1?', 'answer': '2'}
    """

    def __init__(self, mapping: Mapping[str, str]) -> None:
        self._mapping = dict(mapping)
        if len(set(self._mapping.values())) < len(self._mapping):
            raise DataError(f"Two fields would get the same name: {self._mapping}.")

    def __call__(self, row: Row) -> Row:
        renamed = {self._mapping.get(name, name): value for name, value in row.items()}
        if len(renamed) < len(row):
            clash = [new for old, new in self._mapping.items() if old in row and new in row]
            raise DataError(
                f"Renaming {self._mapping} would overwrite the field {', '.join(clash)}; the row has "
                f"{', '.join(row)}.\n  mend: drop or rename that field first: .drop_fields({clash!r})"
            )
        return renamed


def _names(fields: Sequence[str]) -> tuple[str, ...]:
    if isinstance(fields, str):
        raise DataError(f"A list of field names is needed; found the text {fields!r}. mend: [{fields!r}]")
    return tuple(fields)
