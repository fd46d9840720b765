"""Data files inside installed Python packages: how a package registry can carry a model."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path


class PackageFileError(FileNotFoundError):
    """A Python package, or a file in it, is not installed here."""


SCHEME = "package://"


def resolved(name: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """Returns the path behind `package://PACKAGE/FILE`, a file in an installed Python package; any other name as it is.

    Raises:
        PackageFileError: If the package is not installed or has no such file.
    """
    if not isinstance(name, str) or not name.startswith(SCHEME):
        return name
    package, _, file = name.removeprefix(SCHEME).partition("/")
    return package_file(package, file)


def package_file(package: str, file: str) -> Path:
    """Returns a file in an installed package, found without importing the package.

    Its import may run code, or need things that nobody wants installed for the sake of one file.

    Args:
        package: Import name of a top-level package.
        file: Path inside its folder, with forward slashes.

    Raises:
        PackageFileError: If the package is not installed, or has no such file; says what it has.
    """
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise PackageFileError(
            f"No Python package `{package}` is installed here, so it has no file `{file}` to give. Install the "
            "distribution that holds it; this repository's demo has a group: `uv run --group demo …`."
        )
    folder = Path(spec.submodule_search_locations[0])
    if not (folder / file).is_file():
        raise PackageFileError(f"The package `{package}` has no file `{file}`; it has {_data_files(folder)}.")
    return folder / file


def _data_files(folder: Path) -> str:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc"))
    return ", ".join(str(path.relative_to(folder)) for path in paths[:10]) or "no data files"
