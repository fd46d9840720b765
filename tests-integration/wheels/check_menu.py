"""Checks one package in an environment that holds nothing but its wheel and what the wheel asked for.

usage: python -I check_menu.py FOLDER_OF_BUILDS PACKAGE [--without-jax]
"""

import importlib
import importlib.metadata
import sys
import tarfile
import zipfile
from pathlib import Path


def main(folder: Path, package: str, *, without_jax: bool) -> None:
    module = package.replace("-", "_")
    check_contents(folder, module)
    menu = importlib.import_module(module)
    names = list(menu.__all__)
    for name in names:
        assert getattr(menu, name) is not None, f"{module}.{name} is empty"
    if without_jax:
        assert "jax" not in sys.modules, f"importing {module} loads JAX"
        installed = {distribution.name for distribution in importlib.metadata.distributions()}
        assert "jax" not in installed, f"installing {package} brings JAX"
    print(f"{package} {importlib.metadata.version(package)}: {len(names)} names import")


def check_contents(folder: Path, module: str) -> None:
    (wheel,) = folder.glob(f"{module}-*.whl")
    (sdist,) = folder.glob(f"{module}-*.tar.gz")
    inside = zipfile.ZipFile(wheel).namelist()
    assert f"{module}/py.typed" in inside, f"{wheel.name} lacks py.typed"
    assert any(name.endswith("/METADATA") for name in inside)
    assert not any("tests/" in name for name in inside), f"{wheel.name} carries tests"
    root = sdist.name.removesuffix(".tar.gz")
    with tarfile.open(sdist) as archive:
        files = set(archive.getnames())
    for needed in ("README.md", "pyproject.toml", f"src/{module}/py.typed"):
        assert f"{root}/{needed}" in files, f"{sdist.name} lacks {needed}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], without_jax="--without-jax" in sys.argv[3:])
