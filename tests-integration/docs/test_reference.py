"""The reference of the site shows every public name."""

from __future__ import annotations

import importlib
from pathlib import Path

import griffe
import pytest


@pytest.mark.parametrize(
    "menu", ["easydata_sources", "easydata_mix", "easydata_tokenize", "easydel_transforms", "easydel"]
)
def test_the_reference_shows_every_name_of_a_lazy_package(menu):
    docs = Path(__file__).parents[2] / "docs"
    shown = griffe.load(menu, extensions=griffe.load_extensions(str(docs / "lazy_menus.py")))
    assert shown.exports == sorted(importlib.import_module(menu).__all__)
