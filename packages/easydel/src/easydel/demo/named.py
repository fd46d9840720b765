"""Rows that this machine makes itself, by the names that follow `demo://`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from easydata_sources import DataError

from easydel.demo.arithmetic import arithmetic_rows
from easydel.demo.python_docs import Split, python_docs_preferences, python_docs_rows

_MAKERS: dict[str, Callable[[Any], Any]] = {
    "python-docs": python_docs_rows,
    "python-docs-preferences": python_docs_preferences,
    "arithmetic": arithmetic_rows,
}


def demo_rows(name: str) -> list[dict[str, Any]]:
    """Returns the rows of `NAME/SPLIT`.

    Raises:
        DataError: naming those that there are, if there are none of this name.
    """
    known = {f"{maker}/{split}": (make, split) for maker, make in _MAKERS.items() for split in get_args(Split)}
    if name not in known:
        names = ", ".join(f"demo://{one}" for one in known)
        raise DataError(f"There are no rows demo://{name}; there are {names}.")
    make, split = known[name]
    return list(make(split))
