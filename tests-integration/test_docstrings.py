"""Every public name has a docstring that says what goes in, what comes out and what is raised."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import pytest

MENUS = (
    "easydata_sources",
    "easydata_mix",
    "easydata_tokenize",
    "easydel_transforms",
    "easydel_models",
    "easydel_trainers",
    "easydel",
    "easydel.data",
    "easydel.trainers.transforms",
)
POINTS_ELSEWHERE = re.compile(r"[Ss]ee `|explained at `")


def public(menu: str) -> Iterator[tuple[str, Any]]:
    module = importlib.import_module(menu)
    for name in module.__all__:
        if not inspect.ismodule(value := getattr(module, name)):
            yield name, value


def missing(menu: str) -> list[str]:
    """What is not said, one line each."""
    lines = []
    for name, value in public(menu):
        if not inspect.isroutine(value) and not inspect.isclass(value):
            continue  # a constant or a type: the comment beside it is its documentation
        if not (inspect.getdoc(value) or "").strip():
            lines.append(f"{name}: no docstring")
        elif inspect.isclass(value):
            lines += of_class(name, value)
        else:
            lines += of_function(name, value)
    return lines


def of_class(name: str, value: type) -> Iterator[str]:
    own = value.__module__.partition(".")[0] in {menu.partition(".")[0] for menu in MENUS}
    if not own:
        return
    said = "\n".join(inspect.getdoc(base) or "" for base in value.__mro__ if base is not object)
    if is_dataclass(value) and name.endswith("Config"):
        written = "".join(inspect.getsource(base) for base in value.__mro__ if is_dataclass(base))
        for field in fields(value):
            if (
                not field.name.startswith("_")
                and f"{field.name}:" not in said
                and not has_docstring(written, field.name)
            ):
                yield f"{name}.{field.name}: field without a docstring"
    elif not is_dataclass(value) and not issubclass(value, BaseException) and "__init__" in vars(value):
        yield from unsaid(name, value.__init__, f"{said}\n{value.__init__.__doc__}")
    for member, function in vars(value).items():
        if inspect.isfunction(function) and not member.startswith("_"):
            if not inspect.getdoc(getattr(value, member)):
                yield f"{name}.{member}: no docstring"
            else:
                inherited = [getattr(base, member) for base in value.__mro__ if hasattr(base, member)]
                said_of_it = "\n".join([said, *(inspect.getdoc(version) or "" for version in inherited)])
                yield from of_function(f"{name}.{member}", getattr(value, member), said_of_it)


def has_docstring(source: str, field: str) -> bool:
    """Whether a field's line is followed by a string."""
    lines = [line.strip() for line in source.splitlines()]
    starts = [number for number, line in enumerate(lines) if line.startswith(f"{field}:")]
    return any('"""' in "".join(lines[start + 1 : start + 6]) for start in starts)


def of_function(name: str, function: Callable, text: str | None = None) -> Iterator[str]:
    text = inspect.getdoc(function) or "" if text is None else text
    yield from unsaid(name, function, text)
    if raises(function) and "aises" not in text and "refuse" not in text.lower() and not POINTS_ELSEWHERE.search(text):
        yield f"{name}: raises, and does not say what"


def unsaid(name: str, function: Callable, text: str) -> Iterator[str]:
    """Parameters that the docstring nowhere names; one or two may be told in the sentence itself."""
    parameters = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name not in ("self", "cls") and not parameter.name.startswith("_")
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if len(parameters) < 3 or POINTS_ELSEWHERE.search(text):
        return
    for parameter in parameters:
        if not re.search(rf"\b{parameter.name}\b", text):
            yield f"{name}: parameter {parameter.name} is not described"


def raises(function: Callable) -> bool:
    """Whether its own body raises something of its own accord."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return False
    found = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and node.exc is not None]
    names = {ast.unparse(node.func if isinstance(node, ast.Call) else node) for node in found}
    return bool(names - {"NotImplementedError", "AttributeError", "StopIteration"})


@pytest.mark.parametrize("menu", MENUS)
def test_every_public_name_is_documented(menu: str) -> None:
    assert missing(menu) == []
