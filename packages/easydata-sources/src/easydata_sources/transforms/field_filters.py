"""Filters that look at fields: `FilterByField`, `FilterNonEmpty`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

from easydata_sources.transforms.field_values import either, field_names
from easydata_sources.transforms.transform import Transform
from easydata_sources.types import Row


@final
class FilterByField(Transform):
    """Keeps the rows whose field satisfies a predicate; rows that lack the field are dropped.

    >>> keep = FilterByField("score", lambda score: score > 1)
    >>> keep({"score": 2}), keep({"score": 1}), keep({})
    ({'score': 2}, None, None)

    Args:
        field: The field.
        predicate: Function of its value (upstream's name `pred` is accepted).
    """

    def __init__(
        self,
        field: str,
        predicate: Callable[[Any], Any] | None = None,
        *,
        pred: Callable[[Any], Any] | None = None,
    ) -> None:
        self._field = field
        self._predicate: Callable[[Any], Any] = either("FilterByField", predicate=predicate, pred=pred)

    def __call__(self, row: Row) -> Row | None:
        return row if self._field in row and self._predicate(row[self._field]) else None


@final
class FilterNonEmpty(Transform):
    """Keeps the rows in which every one of some fields holds something: no null, no blank text, no empty list.

    >>> keep = FilterNonEmpty(["text"])
    >>> keep({"text": "a"}), keep({"text": "  "}), keep({"text": None}), keep({})
    ({'text': 'a'}, None, None, None)

    Numbers always count as something, 0 and False too.
    """

    def __init__(self, fields: Sequence[str]) -> None:
        self._fields = field_names(fields)

    def __call__(self, row: Row) -> Row | None:
        return row if all(_holds_something(row.get(field)) for field in self._fields) else None


def _holds_something(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    try:
        return value is not None and len(value) > 0
    except TypeError:
        return True
