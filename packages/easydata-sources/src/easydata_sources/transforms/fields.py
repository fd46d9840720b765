"""Transforms that choose and rename the fields of a row."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, final

from easydata_sources.errors import DataError
from easydata_sources.transforms.transform import Transform
from easydata_sources.types import Row

if TYPE_CHECKING:
    import pyarrow as pa


class FieldTransform(Transform):
    """A transform that moves whole columns and looks at no value."""

    @property
    def keeps_every_row(self) -> bool:
        return True

    @abstractmethod
    def select(self, names: Sequence[str]) -> dict[str, str]:
        """Returns new name -> old name of the fields to keep, given the names of those there."""

    def __call__(self, row: Row) -> Row:
        return {new: row[old] for new, old in self.select(list(row)).items()}

    def transform_rows(self, rows: Sequence[Row]) -> list[Row]:
        """Returns the same as one call for each row, choosing once for all rows of equal fields."""
        known: dict[tuple[str, ...], list[tuple[str, str]]] = {}
        changed: list[Row] = []
        for row in rows:
            names = tuple(row)
            if names not in known:
                known[names] = list(self.select(names).items())
            changed.append({new: row[old] for new, old in known[names]})
        return changed

    def transform_columns(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Does the same to a record batch, copying nothing."""
        chosen = self.select(batch.schema.names)
        return batch.select(list(chosen.values())).rename_columns(list(chosen))


@final
class SelectFields(FieldTransform):
    """Keeps only some fields; ones a row lacks are no error.

    >>> SelectFields(["a"])({"a": 1, "b": 2})
    {'a': 1}
    """

    def __init__(self, fields: Sequence[str]) -> None:
        self._fields = _names(fields)

    def select(self, names: Sequence[str]) -> dict[str, str]:
        return {name: name for name in self._fields if name in names}


@final
class DropFields(FieldTransform):
    """Removes some fields; ones a row lacks are no error.

    >>> DropFields(["a"])({"a": 1, "b": 2})
    {'b': 2}
    """

    def __init__(self, fields: Sequence[str]) -> None:
        self._fields = frozenset(_names(fields))

    def select(self, names: Sequence[str]) -> dict[str, str]:
        return {name: name for name in names if name not in self._fields}


@final
class RenameFields(FieldTransform):
    """Renames fields and keeps their order; ones a row lacks are no error.

    Raises:
        DataError: If two fields would get the same name.

    >>> RenameFields({"question": "prompt"})({"question": "1+1?", "answer": "2"})
    {'prompt': '1+1?', 'answer': '2'}
    """

    def __init__(self, mapping: Mapping[str, str]) -> None:
        self._mapping = dict(mapping)
        if len(set(self._mapping.values())) < len(self._mapping):
            raise DataError(f"Two fields would get the same name: {self._mapping}.")

    def select(self, names: Sequence[str]) -> dict[str, str]:
        chosen = {self._mapping.get(name, name): name for name in names}
        if len(chosen) < len(names):
            clash = [new for old, new in self._mapping.items() if old in names and new in names]
            raise DataError(
                f"Renaming {self._mapping} would overwrite the field {', '.join(clash)}; the row has "
                f"{', '.join(names)}.\n  mend: drop or rename that field first: .drop_fields({clash!r})"
            )
        return chosen


def _names(fields: Sequence[str]) -> tuple[str, ...]:
    if isinstance(fields, str):
        raise DataError(f"A list of field names is needed; found the text {fields!r}. mend: [{fields!r}]")
    return tuple(fields)
