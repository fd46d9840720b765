"""A package whose names are loaded when first used: what it offers, when it loads it, what it says of others."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

STUB = """from menu_of_two.one import First as First
from menu_of_two.other import second as second

__version__: str
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "menu_of_two"
    folder.mkdir()
    (folder / "__init__.pyi").write_text(STUB)
    (folder / "__init__.py").write_text(
        "from easydata_sources.lazy_menu import lazy_menu\n"
        "__getattr__, __dir__, __all__ = lazy_menu(__name__, __file__)\n"
    )
    (folder / "one.py").write_text("class First: ...\n")
    (folder / "other.py").write_text("def second(): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("menu_of_two")
    for name in [name for name in sys.modules if name.partition(".")[0] == "menu_of_two"]:
        del sys.modules[name]


def test_a_name_is_loaded_when_it_is_used_and_is_the_very_object(package):
    assert package.__all__ == ["First", "second"]
    assert {"First", "second"} <= set(dir(package))
    assert "menu_of_two.one" not in sys.modules
    assert package.First is sys.modules["menu_of_two.one"].First is vars(package)["First"]
    assert "menu_of_two.other" not in sys.modules


def test_a_star_import_takes_all(package):
    names = {}
    exec("from menu_of_two import *", names)
    assert {"First", "second"} <= set(names)


def test_an_unknown_name_is_refused_with_the_known_ones(package):
    with pytest.raises(AttributeError, match=r"'menu_of_two' has no attribute 'Third'; it offers First, second"):
        package.Third  # noqa: B018


def test_no_module_hides_a_name_of_the_menu():
    package = importlib.import_module("easydata_sources")
    modules = {path.stem for path in Path(package.__file__).parent.glob("*.py")}
    assert not modules & set(package.__all__)


def test_the_package_is_imported_without_its_modules():
    code = "import sys, easydata_sources; print([name for name in sys.modules if name.startswith('easydata_sources.')])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "['easydata_sources.lazy_menu']"
