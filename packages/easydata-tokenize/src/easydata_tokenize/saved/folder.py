"""The folder of a set, on this machine or in a bucket: every file in it appears whole or not at all.

Locally a file is written beside its place and renamed. Object stores show an object when its upload has
ended; so that a failing writer never ends one half way, a file is written here first and uploaded when it is whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast, final

from easydata_sources.errors import DataError
from easydata_sources.storage.files import locate

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["LENGTHS", "WORK", "IncompleteSetError", "SetFolder", "check_file", "checksum"]

# What these stores are given becomes visible at once; elsewhere it is renamed into its place.
_APPEAR_WHOLE = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "hf", "memory"}
_TEMPORARY = ".writing-"

WORK = "_work"
"""Folder of what is not finished; names with `_` in front are no data to any reader."""
LENGTHS = "_lengths"
_INNER = {WORK, LENGTHS}


class IncompleteSetError(DataError):
    """A set is not whole, or a file of it is not what was written."""


@final
class SetFolder:
    """A folder by path or URL; picklable, so that workers elsewhere write to it too.

    Args:
        url: Path, or URL of any file system that fsspec knows.
        storage_options: Arguments of that file system; never shown or stored.
    """

    def __init__(self, url: str | Path, storage_options: Mapping[str, Any] | None = None) -> None:
        self.url = os.fspath(url).rstrip("/") or "/"
        self._options = dict(storage_options or {})
        self.writer = uuid.uuid4().hex
        """What this object's unfinished files are called; workers that it is sent to use it too."""

    def __str__(self) -> str:
        return self.url

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "_options": self._options, "writer": self.writer}

    @property
    def storage_options(self) -> Mapping[str, Any]:
        """Arguments of the file system; may hold secrets."""
        return self._options

    @property
    def local_path(self) -> str | None:
        """Its path on this machine's disk; None if it is elsewhere."""
        return None if self._remote else self._path

    def make(self) -> None:
        """Makes the folder if it does not exist; buckets need none."""
        if not self._remote:
            os.makedirs(self._path, exist_ok=True)
        elif not self._appears_whole:
            self._filesystem.makedirs(self._path, exist_ok=True)

    def address(self, name: str) -> str:
        """Returns the path or URL of a file in the folder."""
        return f"{self.url}/{name}" if self._remote else os.path.join(self.url, name)

    def size(self, name: str) -> int | None:
        """Returns a file's size in bytes; None if it does not exist."""
        try:
            return self._filesystem.size(self._at(name))
        except FileNotFoundError:
            return None

    def read(self, name: str) -> bytes | None:
        """Returns a file's content; None if it does not exist."""
        self._filesystem.invalidate_cache()  # what a client remembers of a bucket, another may have changed
        try:
            with self.open(name) as file:
                return file.read()
        except FileNotFoundError:
            return None

    def open(self, name: str) -> BinaryIO:
        """Opens a file for reading."""
        return cast(BinaryIO, self._filesystem.open(self._at(name), "rb"))

    def entries(self, subfolder: str = "") -> dict[str, str]:
        """Returns the names in the folder, or a folder in it, each with its kind: `file`, `directory` or `link`."""
        if not self._remote:
            try:
                with os.scandir(os.path.join(self._path, subfolder) if subfolder else self._path) as found:
                    return {entry.name: _kind(entry) for entry in found}
            except FileNotFoundError:
                return {}
        self._filesystem.invalidate_cache()
        path = self._at(subfolder) if subfolder else self._path
        try:
            listed = self._filesystem.ls(path, detail=True)
        except FileNotFoundError:
            return {}
        # Some stores hold an empty object of the folder's own name.
        return {
            entry["name"].rstrip("/").rpartition("/")[2]: entry["type"]
            for entry in listed
            if entry["name"].strip("/") != path.strip("/")
        }

    def names(self, subfolder: str = "") -> list[str]:
        """Returns the names of the files in the folder or a folder in it, sorted; none if there is no such folder."""
        kinds = self.entries(subfolder).items()
        return sorted(name for name, kind in kinds if kind == "file" and not name.startswith(_TEMPORARY))

    def write(self, name: str, content: bytes) -> None:
        """Writes a small file."""
        with self.writing(name) as path:
            path.write_bytes(content)

    def create(self, name: str, content: bytes) -> None:
        """Writes a small file where there is none.

        Raises:
            Exception: If there is one, or the storage cannot tell: `FileExistsError`, or the storage's own.
        """
        self._filesystem.pipe_file(self._at(name), content, mode="create")

    @contextlib.contextmanager
    def writing(self, name: str, *, synced: bool = True) -> Iterator[Path]:
        """Yields a path on this machine to write a file at; it takes its place when the block ends without an error.

        Args:
            name: Of the file.
            synced: Whether it must be on the disk before it takes its place: after a power failure, not after a kill,
                a file that was not may have its name and not its content.
        """
        if self._remote:
            with tempfile.TemporaryDirectory(prefix="easydata-") as folder:
                path = Path(folder, "file")
                yield path
                self._upload(path, self._at(name))
            return
        final_path = Path(self._at(name))
        final_path.parent.mkdir(parents=True, exist_ok=True)
        path = final_path.with_name(self._temporary())
        try:
            yield path
            if synced:
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            path.replace(final_path)
        finally:
            path.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Removes a file, if it exists."""
        with contextlib.suppress(FileNotFoundError):
            self._filesystem.rm_file(self._at(name))

    def prune(self, name: str) -> None:
        """Removes a folder in the folder, and the folders in it, as far as they are empty."""
        for inner, kind in self.entries(name).items():
            if kind == "directory":
                self.prune(f"{name}/{inner}")
        if not self._appears_whole:  # where folders are but names, they go with their files
            with contextlib.suppress(OSError):
                self._filesystem.rmdir(self._at(name))

    def clear_temporary(self, writer: str | None, subfolder: str = "") -> None:
        """Removes the unfinished files of a writer that was killed."""
        if not writer or self._appears_whole:
            return
        for name, kind in self.entries(subfolder).items():
            path = f"{subfolder}/{name}" if subfolder else name
            if kind == "file" and name.startswith(f"{_TEMPORARY}{writer}-"):
                self.remove(path)
            elif kind == "directory" and (subfolder or name in _INNER):
                self.clear_temporary(writer, path)

    def _temporary(self) -> str:
        return f"{_TEMPORARY}{self.writer}-{uuid.uuid4().hex[:12]}"

    def _upload(self, path: Path, target: str) -> None:
        if self._appears_whole:
            self._filesystem.put_file(str(path), target)
            return
        parent, _, last = target.rpartition("/")
        self._filesystem.makedirs(parent, exist_ok=True)
        temporary = f"{parent}/{self._temporary()}-{last}"
        self._filesystem.put_file(str(path), temporary)
        self._filesystem.mv(temporary, target)

    def _at(self, name: str) -> str:
        return f"{self._path.rstrip('/')}/{name}"

    @cached_property
    def _located(self) -> tuple[AbstractFileSystem, str, bool]:
        return locate(self.url, self._options)

    @property
    def _filesystem(self) -> AbstractFileSystem:
        return self._located[0]

    @property
    def _path(self) -> str:
        return self._located[1]

    @property
    def _remote(self) -> bool:
        return self._located[2]

    @cached_property
    def _appears_whole(self) -> bool:
        return self._remote and self.url.partition("://")[0] in _APPEAR_WHOLE


def _kind(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return "link"
    return "directory" if entry.is_dir() else "file"


def checksum(file: BinaryIO) -> str:
    """Returns the SHA-256 of a file's content, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def check_file(folder: SetFolder, file: Mapping[str, Any], *, verify: bool) -> None:
    """Raises unless a file is there as it was written.

    Args:
        folder: of the set.
        file: its name (`file`), `bytes` and `sha256`.
        verify: whether to read it and compare its checksum, and not only its size.

    Raises:
        IncompleteSetError: If it is missing, or not what was written.
    """
    address = folder.address(file["file"])
    if folder.size(file["file"]) != file["bytes"]:
        raise IncompleteSetError(
            f"{address} is missing, or not of the {file['bytes']} bytes that were written.\n"
            "  mend: bring it back, or write the set again with overwrite=True"
        )
    if verify:
        with folder.open(file["file"]) as content:
            if checksum(content) != file["sha256"]:
                raise IncompleteSetError(
                    f"{address} is not what was written: its checksum differs from the manifest's.\n"
                    "  mend: bring it back, or write the set again with overwrite=True"
                )
