"""How much the default run proves: which of many cases (`nox -s thorough` runs the others), and how far each goes."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from typing import Any

import pytest

RECORDED_STEPS = 8
"""Of each recorded run of TRL."""
REPLAYED_STEPS = RECORDED_STEPS if os.environ.get("EASYDEL_FULL_COMPILATION") else 3
"""How many of them are replayed: all by `nox -s golden`; the first ones, two of which follow an update, otherwise."""


def thorough_but(cases: Iterable[Any], kept: Collection[Any]) -> list[Any]:
    """All `cases` for `parametrize`, those not in `kept` marked as thorough. A tuple is the values of several names.

    Raises:
        ValueError: If one that is to be kept is no case.
    """
    cases = list(cases)
    if unknown := [one for one in kept if one not in cases]:
        raise ValueError(f"No such cases: {unknown}.")
    values = [case if isinstance(case, tuple) else (case,) for case in cases]
    marks = [() if case in kept else pytest.mark.thorough for case in cases]
    return [pytest.param(*of_case, marks=mark) for of_case, mark in zip(values, marks, strict=True)]
