"""The manifest of a set: what it was made of, what it holds, and whether it is whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, final

from easydata_sources.errors import DataError

from easydata_tokenize.counted import add_counts
from easydata_tokenize.set_folder import SetFolder
from easydata_tokenize.shard_work import LENGTHS, WORK, Written

__all__ = ["MANIFEST", "IncompleteSetError", "Manifest", "SavedSetDiffersError"]

MANIFEST = "_manifest.json"
_VERSION = 2


class SavedSetDiffersError(DataError):
    """A folder holds a set that was made of something else."""


class IncompleteSetError(DataError):
    """A set is not whole, or a file of it is not what was written."""


@final
class Manifest:
    """The manifest in a folder.

    Args:
        folder: of the set.
        content: what the file holds.
    """

    def __init__(self, folder: SetFolder, content: dict[str, Any]) -> None:
        self._folder, self._content = folder, content

    @classmethod
    def find(cls, folder: SetFolder) -> Manifest | None:
        """Return a folder's manifest; None if there is none."""
        content = folder.read(MANIFEST)
        if content is None:
            return None
        found = json.loads(content)
        if found.get("version") != _VERSION:
            raise SavedSetDiffersError(
                f"{folder} holds a set of another version of this format ({found.get('version')}, not {_VERSION}).\n"
                "  mend: write it again with overwrite=True"
            )
        return cls(folder, found)

    @classmethod
    def begin(cls, folder: SetFolder, identity: dict[str, Any]) -> Manifest:
        """Write the manifest of a set of which nothing is there yet, and remove all that was there of another."""
        folder.remove(MANIFEST)
        for name in folder.names():
            if name.startswith("shard-"):
                folder.remove(name)
        folder.remove_folder(WORK)
        folder.remove_folder(LENGTHS)
        manifest = cls(folder, {"version": _VERSION, "complete": False, "identity": identity, "units": {}})
        manifest.write()
        return manifest

    @property
    def complete(self) -> bool:
        """Whether the set is whole."""
        return self._content["complete"]

    @property
    def identity(self) -> dict[str, Any]:
        """What the set was made of."""
        return self._content["identity"]

    @property
    def shards(self) -> list[dict[str, Any]]:
        """The files of the units that are finished, in order."""
        return [shard for _, unit in self._units() for shard in unit["shards"]]

    @property
    def counted(self) -> list[dict[str, Any]]:
        """What the reports of the transforms counted in the units that are finished."""
        units = [unit["counted"] for _, unit in self._units()]
        return [add_counts(reports) for reports in zip(*units, strict=False)]

    def holds(self, unit: int) -> bool:
        """Whether a unit of work is finished."""
        return str(unit) in self._content["units"]

    def enter(self, unit: int, written: Written) -> None:
        """Take in a unit that is finished."""
        self._content["units"][str(unit)] = {"shards": written.shards, "counted": written.counted}
        self.write()

    def finish(self) -> None:
        """Say that the set is whole, and remove what only mattered until then."""
        self._content["units"] = dict(self._units())
        self._content["complete"] = True
        self.write()
        self._folder.remove_folder(WORK)

    def write(self) -> None:
        """Write the file."""
        self._folder.write(MANIFEST, (json.dumps(self._content, indent=1) + "\n").encode())

    def refuse_other(self, expected: Mapping[str, Any]) -> None:
        """Raise unless the set was made of what is `expected`.

        Raises:
            SavedSetDiffersError: Names every difference.
        """
        found = self.identity
        names = sorted(found.keys() | expected.keys())
        differing = [name for name in names if found.get(name) != expected.get(name)]
        if differing:
            lines = [_difference(name, found.get(name), expected.get(name)) for name in differing]
            raise SavedSetDiffersError(
                f"{self._folder} holds a set that was made of something else:\n"
                + "\n".join(lines)
                + "\n  mend: another output_path, or overwrite=True"
            )

    def _units(self) -> list[tuple[str, dict[str, Any]]]:
        return sorted(self._content["units"].items(), key=lambda item: int(item[0]))


def _difference(name: str, then: Any, now: Any) -> str:
    if isinstance(then, dict) and isinstance(now, dict):
        keys = [key for key in sorted(then.keys() | now.keys()) if then.get(key) != now.get(key)]
        return "\n".join(_difference(f"{name}.{key}", then.get(key), now.get(key)) for key in keys)
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now) and isinstance(now[0], dict):
        pairs = enumerate(zip(then, now, strict=True))
        return "\n".join(_difference(f"{name}[{at}]", old, new) for at, (old, new) in pairs if old != new)
    return f"  {name}: {_short(then)} then, {_short(now)} now"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
