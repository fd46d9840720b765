"""Folders that `save_to_disk` of the library `datasets` has written: its own file says which files are the rows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from easydata_sources.errors import DataError, DataFilesNotFoundError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_STATE = "state.json"
_SPLITS = "dataset_dict.json"


def saved_files(filesystem: AbstractFileSystem, folder: str) -> list[str] | None:
    """Returns the Arrow files of a data set that was saved with `save_to_disk`, in order; None if it is no such folder.

    Other Arrow files may lie beside them: those of an earlier, longer data set, or caches of `map`.

    Raises:
        DataError: If it holds several splits, or rows that only the library can find.
    """
    splits = _read(filesystem, f"{folder}/{_SPLITS}")
    if splits is not None and isinstance(splits.get("splits"), list):
        names = ", ".join(map(repr, splits["splits"]))
        raise DataError(
            f"The folder {folder!r} holds several data sets, the splits {names}.\n"
            f"  mend: name the folder of one of them, e.g. '{folder}/{next(iter(splits['splits']), 'train')}'"
        )
    state = _read(filesystem, f"{folder}/{_STATE}")
    if state is None or not isinstance(state.get("_data_files"), list):
        return None
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise DataError(
            f"The data set in {folder!r} was saved with a selection of its rows by an old version of `datasets`.\n"
            "  mend: load it with datasets.load_from_disk(…), and give that, or save it again"
        )
    named = [entry.get("filename") for entry in state["_data_files"] if isinstance(entry, dict)]
    files = [f"{folder}/{name}" for name in named if isinstance(name, str) and "/" not in name]
    missing = [file for file in files if not filesystem.isfile(file)]
    if missing or len(files) != len(state["_data_files"]):
        raise DataFilesNotFoundError(
            f"The data set in {folder!r} lacks files that its {_STATE} names: {', '.join(missing[:3]) or named[:3]}.\n"
            "  mend: copy the whole folder again, or save the data set again"
        )
    return files


def _read(filesystem: AbstractFileSystem, path: str) -> dict | None:
    if not filesystem.isfile(path):
        return None
    try:
        content = json.loads(filesystem.cat_file(path))
    except (ValueError, RecursionError):  # somebody else's file
        return None
    return content if isinstance(content, dict) else None
