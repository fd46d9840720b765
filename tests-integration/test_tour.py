"""The tour of docs/explanation/layers.md goes where the imports go: each file is imported by one named before it."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "explanation" / "layers.md"
MOST = 25
TOURS = ("One SFT row", "One GRPO prompt")


def stops(title: str) -> list[str]:
    """Modules of a tour, in order."""
    section = PAGE.read_text(encoding="utf-8").partition(f"### {title}")[2].partition("\n#")[0]
    return [path.replace("/", ".") for path in re.findall(r"^\| `([a-z_/]+)\.py` \|", section, re.MULTILINE)]


def file_of(module: str) -> Path:
    (found,) = ROOT.glob(f"packages/*/src/{module.replace('.', '/')}.py")
    return found


def imported(module: str) -> set[str]:
    """Modules whose names a module imports, by whatever menu."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file_of(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("easyd"):
            menu = importlib.import_module(str(node.module))
            found |= {str(node.module), *(getattr(getattr(menu, name.name), "__module__", "") for name in node.names)}
    return found


@pytest.mark.parametrize("title", TOURS)
def test_a_tour_is_short_and_every_stop_is_in_sight_of_an_earlier_one(title):
    tour = stops(title)
    assert 10 <= len(tour) <= MOST
    in_sight: set[str] = set(tour[:1])
    for stop in tour:
        assert stop in in_sight, f"{stop} is imported by no file before it"
        in_sight |= imported(stop)
