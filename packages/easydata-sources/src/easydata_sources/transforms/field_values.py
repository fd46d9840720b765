"""Transforms that compute the values of fields: `AddField`, `MapField`, `ExtractField`, `CombineFields`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from easydata_sources.errors import DataError
from easydata_sources.transforms.transform import Transform
from easydata_sources.types import Row

_STEP = re.compile(r"\.?([^.\[\]]+)|\[(-?\d+)\]")


class _RowForRow(Transform):
    @property
    def keeps_every_row(self) -> bool:
        return True


@final
class AddField(_RowForRow):
    """Adds a field, or replaces it.

    >>> AddField("origin", "web")({"text": "a"})
    {'text': 'a', 'origin': 'web'}
    >>> AddField("length", lambda row: len(row["text"]))({"text": "abc"})
    {'text': 'abc', 'length': 3}

    Args:
        field: Its name.
        value: The value, or a function of the row that returns it.
    """

    def __init__(self, field: str, value: Any) -> None:
        self._field = field
        self._value = value

    def __call__(self, row: Row) -> Row:
        return {**row, self._field: self._value(row) if callable(self._value) else self._value}


@final
class MapField(_RowForRow):
    """Puts a function of a field's value in its place; a row that lacks the field stays as it is.

    >>> MapField("text", str.strip)({"text": " a "})
    {'text': 'a'}

    Args:
        field: The field.
        function: Returns the new value (upstream's name `fn` is accepted).
        output_field: Where the new value goes; None = the same field.
    """

    def __init__(
        self,
        field: str,
        function: Callable[[Any], Any] | None = None,
        output_field: str | None = None,
        *,
        fn: Callable[[Any], Any] | None = None,
    ) -> None:
        self._field = field
        self._function: Callable[[Any], Any] = either("MapField", function=function, fn=fn)
        self._output_field = output_field or field

    def __call__(self, row: Row) -> Row:
        if self._field not in row:
            return row
        return {**row, self._output_field: self._function(row[self._field])}


@final
class ExtractField(_RowForRow):
    """Copies a value from inside nested fields to a field of its own.

    >>> ExtractField("meta.tags[0]", "tag")({"meta": {"tags": ["a", "b"]}})["tag"]
    'a'

    Args:
        source_path: Names and list places: `answer.choices[0].text`; `[-1]` is the last.
        target_field: Where the value goes.
        default: What goes there if the path leads nowhere.
    """

    def __init__(self, source_path: str, target_field: str, default: Any = None) -> None:
        steps = [(name, place) for name, place in _STEP.findall(source_path)]
        if not steps or _STEP.sub("", source_path):
            raise DataError(f"{source_path!r} is no path to a value. mend: write it like 'answer.choices[0].text'")
        self._steps: list[str | int] = [name or int(place) for name, place in steps]
        self._target = target_field
        self._default = default

    def __call__(self, row: Row) -> Row:
        value: Any = row
        for step in self._steps:
            value = _step_into(value, step)
            if value is _NOWHERE:
                return {**row, self._target: self._default}
        return {**row, self._target: value}


@final
class CombineFields(_RowForRow):
    """Joins the values of several fields in one.

    >>> CombineFields(["title", "body"], "text", separator=": ")({"title": "A", "body": "b"})["text"]
    'A: b'

    Fields that a row lacks, and nulls, are left out.

    Args:
        source_fields: The fields, in order (also accepted as `fields`).
        target_field: Where the result goes (also accepted as `output_field`).
        combiner: Function of the list of values; None = their texts, joined.
        separator: What stands between two texts.
        drop_sources: Remove the fields that were joined.
    """

    def __init__(
        self,
        source_fields: Sequence[str] | None = None,
        target_field: str | None = None,
        combiner: Callable[[list[Any]], Any] | None = None,
        separator: str = " ",
        drop_sources: bool = False,
        *,
        fields: Sequence[str] | None = None,
        output_field: str | None = None,
    ) -> None:
        self._fields = field_names(either("CombineFields", source_fields=source_fields, fields=fields))
        self._target: str = either("CombineFields", target_field=target_field, output_field=output_field)
        self._combiner = combiner
        self._separator = separator
        self._drop_sources = drop_sources

    def __call__(self, row: Row) -> Row:
        values = [row[field] for field in self._fields if row.get(field) is not None]
        combined = self._combiner(values) if self._combiner else self._separator.join(map(str, values))
        kept = {name: value for name, value in row.items() if not (self._drop_sources and name in self._fields)}
        return {**kept, self._target: combined}


def either(owner: str, **spellings: Any) -> Any:
    """Returns the one argument that was given under one of its names.

    Raises:
        DataError: If it was given under none of them, or under several.
    """
    given = {name: value for name, value in spellings.items() if value is not None}
    if len(given) != 1:
        names = " or ".join(f"`{name}`" for name in spellings)
        found = " and ".join(f"{name}={value!r}" for name, value in given.items()) or "neither"
        raise DataError(f"{owner} needs {names}, and one of them only; found {found}.")
    return next(iter(given.values()))


def field_names(fields: Sequence[str]) -> tuple[str, ...]:
    """Returns the names as a tuple, or raises if a text was given in place of a list."""
    if isinstance(fields, str):
        raise DataError(f"A list of field names is needed; found the text {fields!r}. mend: [{fields!r}]")
    return tuple(fields)


_NOWHERE = object()


def _step_into(value: Any, step: str | int) -> Any:
    if isinstance(step, str):
        return value.get(step, _NOWHERE) if isinstance(value, Mapping) else _NOWHERE
    if isinstance(value, str) or not isinstance(value, Sequence):
        return _NOWHERE
    return value[step] if -len(value) <= step < len(value) else _NOWHERE
