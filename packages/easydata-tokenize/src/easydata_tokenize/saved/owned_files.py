"""Which files of a folder are those of a set: what its manifest lists, and what its unfinished work has noted.

Nothing else is ever written over or removed, and a folder that holds anything else is no place for a set: it would be
read as a part of it. Names that begin with a dot are left alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from easydata_sources.errors import DataError

from easydata_tokenize.saved.folder import LENGTHS, WORK, SetFolder

__all__ = ["ForeignFilesError", "is_set_file", "owned_files", "refuse_foreign", "remove_owned"]

_SHARD = re.compile(r"shard(-\d{5,}){1,2}\.(parquet|arrow|jsonl|jsonl\.gz)")
_LENGTHS = re.compile(rf"{LENGTHS}/shard(-\d{{5,}}){{1,2}}\.npy")
_UNIT = re.compile(r"shard(-\d{5,})?")
_ENTRY = re.compile(r"\d{5,}\.(json|names)")
_PARTS = re.compile(r"\d{5,}")
_PART = re.compile(r"\d{5,}\.part")
_SHOWN = 5


class ForeignFilesError(DataError):
    """A folder holds files that no set of ours lists, so nothing is written there."""


def is_set_file(name: Any) -> bool:
    """Returns whether a name is one that shards, or the files of their lengths, may have."""
    return isinstance(name, str) and bool(_SHARD.fullmatch(name) or _LENGTHS.fullmatch(name))


def owned_files(folder: SetFolder, listed: Iterable[str]) -> set[str]:
    """Returns the files of a set in its folder, the manifest left out.

    Args:
        folder: of the set.
        listed: files that its manifest lists.
    """
    work = _work_files(folder)
    noted = [name for path in work if path.endswith((".json", ".names")) for name in _noted(folder, path)]
    return {*listed, *noted, *work}


def refuse_foreign(folder: SetFolder, owned: Iterable[str], manifest: str | None) -> None:
    """Raises if the folder holds anything but a set.

    Args:
        folder: to write to.
        owned: the files of the set in it, as paths within the folder.
        manifest: name of its manifest; None if it holds none.

    Raises:
        ForeignFilesError: names some of what is there.
    """
    known = set(owned)
    inner = {name.partition("/")[0] for name in known if "/" in name}
    if manifest is not None:
        known.add(manifest)
        inner |= {WORK, LENGTHS}  # perhaps empty
    foreign = []
    for name, kind in folder.entries().items():
        if name in inner and kind == "directory":
            foreign += [path for path in _files_below(folder, name) if path not in known]
        elif not name.startswith(".") and (name not in known or kind == "directory"):
            foreign.append(name)
    if foreign:
        shown = ", ".join(map(repr, sorted(foreign)[:_SHOWN])) + (", …" if len(foreign) > _SHOWN else "")
        raise ForeignFilesError(
            f"{folder} holds what no set of this writer lists: {shown} ({len(foreign)} in all).\n"
            "  expected: a new or empty folder, or one that holds nothing but such a set\n"
            "  mend: choose another output_path, such as a new folder in it; nothing there was changed"
        )


def remove_owned(folder: SetFolder, owned: Iterable[str]) -> None:
    """Removes files of a set, and the folders that are empty then."""
    for name in sorted(owned):
        folder.remove(name)
    folder.prune(WORK)
    folder.prune(LENGTHS)


def _work_files(folder: SetFolder) -> list[str]:
    """Returns the files of unfinished work, by their names."""
    files = []
    for unit, kind in folder.entries(WORK).items():
        if kind != "directory" or not _UNIT.fullmatch(unit):
            continue
        for name, inner in folder.entries(f"{WORK}/{unit}").items():
            path = f"{WORK}/{unit}/{name}"
            if inner == "file" and _ENTRY.fullmatch(name):
                files.append(path)
            elif inner == "directory" and _PARTS.fullmatch(name):
                parts = folder.entries(path).items()
                files += [f"{path}/{part}" for part, kind in parts if kind == "file" and _PART.fullmatch(part)]
    return files


def _noted(folder: SetFolder, path: str) -> list[str]:
    """Returns the files that a note of unfinished work lists."""
    try:
        content = json.loads(folder.read(path) or b"{}")
    except ValueError:
        return []
    if not isinstance(content, dict):
        return []
    shard = content.get("shard") or {}
    names = [*content.get("files", []), shard.get("file"), (shard.get("lengths") or {}).get("file")]
    return [name for name in names if is_set_file(name)]


def _files_below(folder: SetFolder, name: str) -> list[str]:
    found = []
    for inner, kind in folder.entries(name).items():
        path = f"{name}/{inner}"
        found += _files_below(folder, path) if kind == "directory" else [] if inner.startswith(".") else [path]
    return found
