"""Which of many cases the default run keeps; `nox -s thorough` runs the others."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def thorough_but(cases: Iterable[Any], kept: Collection[Any]) -> list[Any]:
    """All `cases` for `parametrize`, those not in `kept` marked as thorough.

    Raises:
        ValueError: If one that is to be kept is no case.
    """
    cases = list(cases)
    if unknown := [one for one in kept if one not in cases]:
        raise ValueError(f"No such cases: {unknown}.")
    return [case if case in kept else pytest.param(case, marks=pytest.mark.thorough) for case in cases]
