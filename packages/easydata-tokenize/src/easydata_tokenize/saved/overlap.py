"""A set is never written among the files that it is made of, nor where the next call would read it as input."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from easydata_sources.errors import DataError
from easydata_sources.storage.files import locate

from easydata_tokenize.saved.folder import SetFolder

if TYPE_CHECKING:
    from easydata_sources.storage.files import DataFile

__all__ = ["OverlapError", "refuse_overlap"]

_MAGIC = re.compile(r"[*?\[]")


class OverlapError(DataError):
    """The folder to write to and the files to read lie in one another."""


def refuse_overlap(
    folder: SetFolder, given: Any, files: Sequence[DataFile], extension: str, options: Mapping[str, Any] | None
) -> None:
    """Raises if the folder holds a file of the input, or lies where the input is looked for.

    Args:
        folder: to write to.
        given: what the input was called by: paths, globs and folders count, anything else does not.
        files: of the input.
        extension: of the files that will be written.
        options: arguments of the file system of `given`.

    Raises:
        OverlapError: names both.
    """
    target = _location(folder.url, folder.storage_options)
    for file in files:
        if _is_below(_location(file.url, file.storage_options), target):
            raise _overlaps(folder, f"the input {file.url} lies in it")
    for pattern in _patterns(given):
        kind, path = _location(pattern, options)
        if _MAGIC.search(path):
            found = target[0] == kind and any(
                _matches(path, f"{target[1]}/{name}.{extension}") for name in ("shard-00000", "shard-00000-00000")
            )
        else:
            found = _is_below(target, (kind, path))
        if found:
            raise _overlaps(folder, f"the next call would find it as input, under {pattern!r}")


def _patterns(given: Any) -> list[str]:
    if isinstance(given, str | os.PathLike):
        return [os.fspath(given)]
    if isinstance(given, list | tuple) and all(isinstance(path, str | os.PathLike) for path in given):
        return [os.fspath(path) for path in given]
    return []


def _location(url: str, options: Mapping[str, Any] | None) -> tuple[str, str]:
    """Returns the kind of file system and the path there, without links where those can be followed."""
    filesystem, path, remote = locate(url, options)
    protocol = filesystem.protocol if isinstance(filesystem.protocol, str) else filesystem.protocol[0]
    return protocol, path.rstrip("/") if remote or _MAGIC.search(path) else os.path.realpath(path)


def _is_below(inner: tuple[str, str], outer: tuple[str, str]) -> bool:
    return inner[0] == outer[0] and (inner[1] + "/").startswith(outer[1].rstrip("/") + "/")


def _matches(pattern: str, path: str) -> bool:
    parts, names = pattern.split("/"), path.split("/")
    if "**" in parts:
        start = parts.index("**")
        return len(names) > start and all(map(fnmatchcase, names[:start], parts[:start]))
    return len(parts) == len(names) and all(map(fnmatchcase, names, parts))


def _overlaps(folder: SetFolder, found: str) -> OverlapError:
    return OverlapError(
        f"{folder} is no place for the set: {found}.\n"
        "  expected: input and output apart\n"
        "  mend: choose an output_path beside the input, not in it"
    )
