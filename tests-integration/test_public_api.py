"""What users call stays: no name, argument or default of public_api.txt may go or change, and none may become required.

Additions that break nobody need not be recorded. To record what there is now, on purpose:

    EASYDEL_RECORD_API=1 pytest tests-integration/test_public_api.py
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RECORD = Path(__file__).with_name("public_api.txt")
MENUS = ("easydel", "easydel.data", "easydel.trainers.transforms")
REQUIRED = "(required)"


def test_nothing_public_went_or_changed():
    now = list(public_lines())
    if os.environ.get("EASYDEL_RECORD_API"):
        RECORD.write_text("\n".join(now) + "\n", encoding="utf-8")
    recorded = RECORD.read_text(encoding="utf-8").splitlines()
    assert [line for line in recorded if line not in set(now)] == [], "gone or changed"
    callables = {line.partition("(")[0] for line in recorded}
    new = [line for line in now if line not in set(recorded) and line.endswith(REQUIRED)]
    assert [line for line in new if line.partition("(")[0] in callables] == [], "newly required"


def public_lines() -> Iterator[str]:
    """A line for each name, and for each argument of what can be called."""
    for menu in MENUS:
        module = importlib.import_module(menu)
        for name in sorted(module.__all__):
            value = getattr(module, name)
            yield f"{menu}.{name}"
            if inspect.isclass(value):
                yield from arguments(f"{menu}.{name}", value)
                for member, method in inspect.getmembers(value, inspect.isroutine):
                    if not member.startswith("_") and str(method.__module__).startswith("easyd"):
                        yield f"{menu}.{name}.{member}"
                        yield from arguments(f"{menu}.{name}.{member}", method)
            elif inspect.isroutine(value):
                yield from arguments(f"{menu}.{name}", value)


def arguments(name: str, function: Any) -> Iterator[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # classes whose calling is C's affair
        return
    for parameter in parameters:
        if parameter.name == "self" or parameter.name.startswith("_"):
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        default = REQUIRED if parameter.default is parameter.empty else f"= {shown(parameter.default)}"
        yield f"{name}({parameter.name}) {default}"


def shown(default: Any) -> str:
    """A default without addresses in memory."""
    plain = (bool, int, float, str, bytes, type(None), tuple)
    return repr(default) if isinstance(default, plain) else type(default).__name__
