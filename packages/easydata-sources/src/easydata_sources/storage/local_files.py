"""Files of the local disk, by folder or by glob. Symbolic links are followed, as Python's `glob` follows them.

A model or data set of the Hub lies in a cache of links, so leaving links out would leave all of it out. A link that
leads back to a folder on its own way is not followed again: there would be no end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from easydata_sources.errors import DataFilesNotFoundError

_MAGIC = frozenset("*?[")

_Way = frozenset[tuple[int, int]]
"""Device and number of every folder on the way to one."""


def files_below(folder: str) -> Iterator[str]:
    """Yields the files of a folder at any depth; those whose own name or folder begins with `.` or `_` are left out.

    Raises:
        DataFilesNotFoundError: If a link leads nowhere.
    """
    yield from _files_below(folder, _begin(folder))


def matching_files(pattern: str) -> Iterator[str]:
    """Yields the files that match an absolute glob pattern, once each.

    `**` stands for any number of folders, none included. Names that begin with `.` match only what begins so too.

    Raises:
        DataFilesNotFoundError: If a matching link leads nowhere.
    """
    top, *parts = pattern.split(os.sep)
    found: dict[str, None] = {}
    start = top + os.sep
    for path in _matching(start, parts, _begin(start)):
        found.setdefault(path)
    yield from found


def _files_below(folder: str, way: _Way) -> Iterator[str]:
    for name in _names(folder):
        if name.startswith((".", "_")):
            continue
        path = os.path.join(folder, name)
        if os.path.isdir(path):
            further = _step(way, path)
            if further is not None:
                yield from _files_below(path, further)
        else:
            yield from _file(path)


def _matching(folder: str, parts: Sequence[str], way: _Way) -> Iterator[str]:
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _matching(folder, rest or ["*"], way)
        for name in _names(folder):
            path = os.path.join(folder, name)
            if not name.startswith(".") and os.path.isdir(path) and (further := _step(way, path)) is not None:
                yield from _matching(path, parts, further)
        return
    for name in _matching_names(folder, part):
        path = os.path.join(folder, name)
        if not rest:
            if not os.path.isdir(path):
                yield from _file(path)
        elif os.path.isdir(path) and (further := _step(way, path)) is not None:
            yield from _matching(path, rest, further)


def _matching_names(folder: str, part: str) -> list[str]:
    if not _MAGIC.intersection(part):
        return [part] if os.path.lexists(os.path.join(folder, part)) else []
    names = (name for name in _names(folder) if not name.startswith(".") or part.startswith("."))
    return [name for name in names if fnmatchcase(name, part)]


def _names(folder: str) -> list[str]:
    return sorted(os.listdir(folder))


def _file(path: str) -> Iterator[str]:
    if os.path.isfile(path):
        yield path
    elif not os.path.exists(path):
        raise DataFilesNotFoundError(
            f"{path} is a symbolic link to {os.readlink(path)}, which does not exist.\n"
            "  mend: bring back what it leads to (a cache may have been cleared), or remove the link"
        )


def _begin(folder: str) -> _Way:
    return _step(frozenset(), folder) or frozenset()


def _step(way: _Way, folder: str) -> _Way | None:
    """Returns the way with one folder more; None if it is on it already."""
    status = os.stat(folder)
    here = (status.st_dev, status.st_ino)
    return None if here in way else way | {here}
