"""The manifest of a set: what it was made of, what it holds, and whether it is whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from easydata_sources.errors import DataError
from easydata_sources.report import add_counts

from easydata_tokenize.saved.differences import differences, not_comparable
from easydata_tokenize.saved.folder import IncompleteSetError, SetFolder, check_file
from easydata_tokenize.saved.owned_files import is_set_file, owned_files, refuse_foreign, remove_owned

__all__ = ["MANIFEST", "IncompleteSetError", "Manifest", "SavedSetDiffersError", "WrittenUnit"]

MANIFEST = "_manifest.json"
_VERSION = 2
_SHOWN = 12


class SavedSetDiffersError(DataError):
    """A folder holds a set that was made of something else."""


class DamagedManifestError(SavedSetDiffersError, IncompleteSetError):
    """A `_manifest.json` is damaged, or another program's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenUnit:
    """What became of a unit of work: JSON-able.

    Attributes:
        shards: its files in order: name, rows, tokens, bytes, sha256, and the same of its lengths.
        counted: what the reports of the source's transforms counted.
    """

    shards: list[dict[str, Any]]
    counted: list[dict[str, Any]]


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
        """Returns a folder's manifest; None if there is none."""
        content = folder.read(MANIFEST)
        if content is None:
            return None
        try:
            found = json.loads(content)
        except ValueError as error:  # UnicodeDecodeError is one too
            raise _not_ours(folder, f"no JSON ({error})") from error
        if not isinstance(found, dict) or "version" not in found:
            raise _not_ours(folder, "JSON of another kind")
        if found["version"] != _VERSION:
            raise SavedSetDiffersError(
                f"{folder} holds a set of another version of this format: {_short(found['version'])}, not {_VERSION}.\n"
                "  mend: write it again to another output_path"
            )
        problem = _problem(found)
        if problem:
            raise _not_ours(folder, problem)
        return cls(folder, found)

    @classmethod
    def begin(cls, folder: SetFolder, identity: dict[str, Any], before: Manifest | None) -> Manifest:
        """Writes the manifest of a set of which nothing is there yet.

        Args:
            folder: of the set.
            identity: what it is made of.
            before: the manifest of another set in the folder, which is removed with all that it lists.

        Raises:
            ForeignFilesError: If the folder holds anything else; nothing was changed then.
        """
        owned = set[str]() if before is None else before.owned()
        refuse_foreign(folder, owned, None if before is None else MANIFEST)
        if before is not None:
            before.disown()
            remove_owned(folder, owned)
        manifest = cls(folder, {"version": _VERSION, "complete": False, "identity": identity, "units": {}})
        manifest.write()
        return manifest

    def owned(self) -> set[str]:
        """Returns the files of the set that are there, or were, as paths within the folder."""
        return owned_files(self._folder, _listed(self._content))

    def disown(self) -> None:
        """Says that the set is being removed, before anything of it is: what is left is no set any more."""
        self._content |= {"complete": False, "removed": True}
        self.write()

    def refuse_foreign(self) -> None:
        """Raises if the folder holds files of others.

        Raises:
            ForeignFilesError: names them.
        """
        refuse_foreign(self._folder, self.owned(), MANIFEST)

    @property
    def removed(self) -> bool:
        """Whether a run was killed that was about to remove the set."""
        return self._content.get("removed", False)

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

    def check_files(self, *, verify: bool = False) -> None:
        """Raises unless the files of the units that are finished are there.

        Args:
            verify: whether to read each and compare its checksum, and not only its size.

        Raises:
            IncompleteSetError: names the first that is missing or not what was written.
        """
        for shard in self.shards:
            for file in (shard, *([shard["lengths"]] if "lengths" in shard else [])):
                check_file(self._folder, file, verify=verify)

    def holds(self, unit: int) -> bool:
        """Returns whether a unit of work is finished."""
        return str(unit) in self._content["units"]

    def enter(self, unit: int, written: WrittenUnit) -> None:
        """Takes in a unit that is finished."""
        self._content["units"][str(unit)] = {"shards": written.shards, "counted": written.counted}
        self.write()

    def finish(self) -> None:
        """Says that the set is whole, and removes what only mattered until then."""
        self._content["units"] = dict(self._units())
        self._content["complete"] = True
        self.write()
        listed = set(_listed(self._content))
        remove_owned(self._folder, self.owned() - listed)

    def write(self) -> None:
        """Writes the file."""
        self._folder.write(MANIFEST, (json.dumps(self._content, indent=1) + "\n").encode())

    def refuse_other(self, expected: Mapping[str, Any], *, assume_same: bool) -> None:
        """Raises unless the set was made of what is `expected`.

        Args:
            expected: the identity of what is given now.
            assume_same: whether the user says that what cannot be compared, and functions of other code, are the same.

        Raises:
            SavedSetDiffersError: Names every difference, or what cannot be compared.
        """
        found = [one for one in differences(self.identity, expected) if not (one.declarable and assume_same)]
        if found:
            lines = "".join(f"\n  {one}" for one in found[:_SHOWN]) + ("\n  …" if len(found) > _SHOWN else "")
            mend = "another output_path, or overwrite=True"
            if all(one.declarable for one in found):
                mend += "; or assume_same=True if you know that the rows are the same"
            raise SavedSetDiffersError(
                f"{self._folder} holds a set that was made of something else:{lines}\n  mend: {mend}"
            )
        unknown = not_comparable(self.identity)
        if unknown and not assume_same:
            raise SavedSetDiffersError(
                f"{self._folder} holds a set, and whether it was made of the same cannot be known:"
                + "".join(f"\n  {what}" for what in unknown[:_SHOWN])
                + "\n  mend: assume_same=True if it was; else another output_path, or overwrite=True"
            )

    def _units(self) -> list[tuple[str, dict[str, Any]]]:
        return sorted(self._content["units"].items(), key=lambda item: int(item[0]))


def _listed(content: Mapping[str, Any]) -> list[str]:
    shards = [shard for unit in content["units"].values() for shard in unit["shards"]]
    return [file for shard in shards for file in (shard["file"], shard.get("lengths", {}).get("file")) if file]


def _problem(content: Mapping[str, Any]) -> str | None:
    """Returns what shows that a manifest is not as this class writes it; None if it is."""
    try:
        units = content["units"]
        numbered = all(key == str(int(key)) and int(key) >= 0 for key in units)
        shards = [shard for unit in units.values() for shard in unit["shards"]]
        files = [file for shard in shards for file in (shard, *([shard["lengths"]] if "lengths" in shard else []))]
        typed = [isinstance(content["complete"], bool), isinstance(content["identity"], dict)]
        typed += [_is_count(file["bytes"]) and isinstance(file["sha256"], str) for file in files]
        typed += [_is_count(shard["rows"]) and _is_count(shard["tokens"]) for shard in shards]
        typed += [isinstance(unit["counted"], list) for unit in units.values()]
        names = [file["file"] for file in files]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return f"a manifest that lacks something, or has it of another type ({type(error).__name__}: {error})"
    if not numbered or not all(typed):
        return "a manifest with values of other types"
    strange = [name for name in names if not is_set_file(name)]
    if strange or len(set(names)) < len(names):
        return f"a manifest of files that no set has: {_short(strange or names)}"
    return None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _not_ours(folder: SetFolder, found: str) -> DataError:
    return DamagedManifestError(
        f"{folder.address(MANIFEST)} is not what this writer wrote.\n"
        f"  found: {found}\n"
        "  mend: choose another output_path; if it is a damaged set of yours, move the folder away and write it again"
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
