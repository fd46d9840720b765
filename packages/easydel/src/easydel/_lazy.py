"""Menus whose names are fetched from other packages when they are first used (PEP 562)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_menu(module: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make the `__getattr__` and `__dir__` of a module that offers names of other packages.

    Args:
        module: the module's `__name__`, for its error messages.
        homes: name -> the module it is fetched from. What is fetched is the very object, so that pickles,
            `isinstance`
            and links into the documentation do not see the detour.
    """

    def __getattr__(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {module!r} has no attribute {name!r}; it offers {', '.join(sorted(homes))}")
        return getattr(import_module(homes[name]), name)

    def __dir__() -> list[str]:
        return sorted(homes)

    return __getattr__, __dir__
