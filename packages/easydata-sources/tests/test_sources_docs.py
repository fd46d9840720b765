"""The examples in docstrings and in the README run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import easydata_sources
import pytest

README = Path(__file__).parents[1] / "README.md"


def test_docstring_examples() -> None:
    tried = 0
    for module in pkgutil.walk_packages(easydata_sources.__path__, "easydata_sources."):
        result = doctest.testmod(importlib.import_module(module.name))
        assert result.failed == 0, module.name
        tried += result.attempted
    assert tried > 5


def test_readme_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)


def test_readme_names_every_file() -> None:
    text = README.read_text()
    for module in pkgutil.walk_packages(easydata_sources.__path__):
        if not module.ispkg:
            assert f"`{module.name.replace('.', '/')}.py`" in text


def test_menu_is_complete() -> None:
    for name in easydata_sources.__all__:
        assert getattr(easydata_sources, name) is not None
