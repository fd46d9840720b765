"""Data files inside installed Python packages: how a package registry can carry a model."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


class PackageFileError(FileNotFoundError):
    """A Python package, or a file in it, is not installed here."""


def package_file(package: str, file: str) -> Path:
    """Find a file in an installed package without importing the package.

    Its import may run code, or need things that nobody wants installed for the sake of one file.

    Args:
        package: import name of a top-level package.
        file: path inside its folder, with forward slashes.

    Raises:
        PackageFileError: if the package is not installed, or has no such file; says what it has.
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
