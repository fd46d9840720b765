"""From paths, globs, folders and URLs to an ordered list of files, on any file system fsspec knows.

Everything goes through one file-system object per URL, so credentials (`storage_options`) count for
globbing as much as for reading, and names keep their bucket or container.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, cast
from urllib.parse import unquote, urlsplit

from easydata_sources.errors import (
    DataAccessError,
    DataError,
    DataFilesNotFoundError,
    DataFormatError,
    MissingExtraError,
    UnfinishedFilesError,
)
from easydata_sources.hf.saved_by_datasets import saved_files
from easydata_sources.safe_text import without_secrets_of_addresses
from easydata_sources.storage.file_stamp import FileStamp, stamp_of_local, stamp_of_remote
from easydata_sources.storage.local_files import files_below, matching_files
from easydata_sources.storage.server_faults import raising_data_errors

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

logger = logging.getLogger(__name__)

PathLike: TypeAlias = "str | os.PathLike[str]"
DataFilesLike: TypeAlias = "PathLike | Sequence[PathLike]"
"""A path, glob, folder or URL, or a list of them."""

# protocol -> (package that speaks it, our extra that installs it)
_EXTRAS = {
    "s3": ("s3fs", "s3"),
    "s3a": ("s3fs", "s3"),
    "gs": ("gcsfs", "gcs"),
    "gcs": ("gcsfs", "gcs"),
    "az": ("adlfs", "abfs"),
    "abfs": ("adlfs", "abfs"),
    "abfss": ("adlfs", "abfs"),
    "adl": ("adlfs", "abfs"),
    "hf": ("huggingface_hub", "hf"),
    "http": ("aiohttp", "http"),
    "https": ("aiohttp", "http"),
}


_MANIFEST = "_manifest.json"  # what writers of sets keep beside the files (easydata_tokenize)

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z", ".rar")

_MEMORY_BYTES = 1 << 26  # a copy of a larger file goes to the disk


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFile:
    """One file: its name and how to reach it."""

    url: str
    """Absolute path, or URL with protocol and bucket."""
    remote: bool
    """Whether reads go over a network (or anything else that is not the local disk)."""
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Arguments of the file system; may hold secrets, hence never shown."""
    listed: FileStamp = field(default=FileStamp(), repr=False, compare=False)
    """The file as it was when it was listed."""

    @property
    def filename(self) -> str:
        """Its path in lower-case letters, without what a web address says behind it: it ends in the extension."""
        return self._path.lower()

    @property
    def partitions(self) -> dict[str, str]:
        """The columns that its folders name, as in `lang=en/year=2024/part-0.parquet`; outermost first."""
        found: dict[str, str] = {}
        for folder in reversed(self._path.split("/")[:-1]):
            key, equals, value = folder.partition("=")
            if not equals or not key:
                break
            found.setdefault(unquote(key), unquote(value))
        return dict(reversed(found.items()))

    @property
    def _path(self) -> str:
        first = self.url.partition("::")[0]  # of a chained address (zip://…::s3://…) the file inside
        return unquote(urlsplit(first).path) if _is_web(first) else first

    @property
    def name(self) -> str:
        """The URL without what signs or logs in: what shards, errors and positions are called by.

        A run may therefore go on with an address that was signed anew.
        """
        return without_secrets_of_addresses(self.url) if self.remote else self.url

    def open(self, **how: Any) -> BinaryIO:
        """Opens for reading bytes.

        Args:
            **how: Arguments for opening on a network.
        """
        filesystem, path = _filesystem(self.url, self.storage_options)
        if not self.remote:
            return cast(BinaryIO, filesystem.open(path, "rb"))
        with raising_data_errors(self.url, self.storage_options):
            return self._open_remote(filesystem, path, how)

    def _open_remote(self, filesystem: AbstractFileSystem, path: str, how: Mapping[str, Any]) -> BinaryIO:
        if _is_web(self.url) and not filesystem.info(path).get("partial"):
            return _fetch_whole(filesystem, path)
        return cast(BinaryIO, filesystem.open(path, "rb", **how))

    def located(self) -> tuple[AbstractFileSystem, str]:
        """Returns the file system that the file is on, and its path there."""
        return _filesystem(self.url, self.storage_options)

    def size(self) -> int | None:
        """Returns the size in bytes; None if the server does not tell."""
        filesystem, path = _filesystem(self.url, self.storage_options)
        return filesystem.size(path)

    def check_unchanged(self) -> None:
        """Raises if the file is not the one that was listed.

        Raises:
            DataFormatError: If it was changed or replaced; reason `file_changed`.
            FileNotFoundError: If it is gone.
        """
        filesystem, path = _filesystem(self.url, self.storage_options)
        if self.remote:
            filesystem.invalidate_cache()
            now = stamp_of_remote(filesystem.info(path))
        else:
            status = os.stat(path)
            if self.listed.is_same(size=status.st_size, version=str(status.st_mtime_ns)):
                return
            now = stamp_of_local(path)
        if not self.listed.differs(now):
            return
        raise DataFormatError(
            "A file was changed after it was listed.",
            file=self.name,
            found=f"{now.size} bytes" if now.size != self.listed.size else "other content of the same size",
            expected=f"the {self.listed.size} bytes that were there",
            mend="bring the old file back, or make the source again; write new data to new files",
            reason="file_changed",
        )


def expand_data_files(
    data_files: DataFilesLike,
    *,
    storage_options: Mapping[str, Any] | None = None,
    extensions: Sequence[str],
) -> list[DataFile]:
    """Returns the files meant by paths, globs, folders and URLs.

    The order given is kept; each glob's and folder's files are sorted; a file named twice counts once.
    Folders are searched at any depth for files with one of the extensions; names that start with `.` or `_`
    are left out there. Symbolic links are followed. A folder that `datasets` saved gives the files it names.

    Args:
        data_files: One or several of them.
        storage_options: Arguments for the fsspec file system (key, secret, token, endpoint_url, …).
        extensions: Extensions looked for in folders, with the dot.

    Raises:
        DataFilesNotFoundError: If one of them matches nothing.
        UnfinishedFilesError: If a glob or a folder finds files of a set that its writer has not finished.
        DataAccessError: If looking for them is refused, as with wrong credentials.
        MissingExtraError: If the protocol needs a package that is not installed.
    """
    patterns = [data_files] if isinstance(data_files, str | os.PathLike) else list(data_files)
    if not patterns:
        raise DataFilesNotFoundError("No data files were given: the list of paths is empty.")
    if not all(os.fspath(pattern).strip() for pattern in patterns):
        raise DataFilesNotFoundError(
            "An empty path was given, which names no file.\n  mend: name a file, a glob or a folder ('.' is this one)"
        )
    options = dict(storage_options or {})
    files: dict[str, DataFile] = {}
    for pattern in patterns:
        for file in _expand(os.fspath(pattern), options, extensions):
            files.setdefault(file.url, file)
    return list(files.values())


def _expand(pattern: str, options: dict[str, Any], extensions: Sequence[str]) -> list[DataFile]:
    with raising_data_errors(pattern, options):
        return _expand_on(*_filesystem(pattern, options), pattern, options, extensions)


def _expand_on(
    filesystem: AbstractFileSystem, path: str, pattern: str, options: dict[str, Any], extensions: Sequence[str]
) -> list[DataFile]:
    remote = not _is_local(filesystem)
    if "::" in pattern:  # a chained URL (zip://…::s3://…) names one file; its parts are not ours to expand
        return [DataFile(url=pattern, remote=remote, storage_options=options)]
    try:
        paths = _matches(filesystem, path, pattern, extensions)
        if paths != [path]:
            _refuse_unfinished(filesystem, path, paths)
        return [_data_file(filesystem, name, remote, options) for name in paths]
    except PermissionError as error:
        raise DataAccessError(
            f"Looking for {pattern!r} was refused: {error}\n"
            "  mend: check the credentials (storage_options or the environment) and what they may read"
        ) from error


def _data_file(filesystem: AbstractFileSystem, path: str, remote: bool, options: dict[str, Any]) -> DataFile:
    if not remote:
        return DataFile(url=path, remote=False, storage_options=options, listed=stamp_of_local(path))
    # Listing has just told, so that hardly any client asks again.
    url, listed = filesystem.unstrip_protocol(path), stamp_of_remote(filesystem.info(path))
    return DataFile(url=url, remote=True, storage_options=options, listed=listed)


def _matches(filesystem: AbstractFileSystem, path: str, pattern: str, extensions: Sequence[str]) -> list[str]:
    if filesystem.isfile(path):
        return [path]
    local = _is_local(filesystem)
    if filesystem.isdir(path):
        saved = saved_files(filesystem, path) if ".arrow" in extensions else None
        if saved is not None:
            return saved
        below = list(files_below(path)) if local else list(filesystem.find(path))
        found = [name for name in below if _is_data_file(name[len(path) :], extensions)]
        _log_unread(pattern, [name for name in below if name not in set(found)], extensions)
        if not found:
            raise DataFilesNotFoundError(
                f"The folder {pattern!r} holds no file ending in {_some(extensions)} "
                "(names starting with '.' or '_' do not count).\n"
                "  mend: name the files, e.g. a glob like 'folder/*.ext', or use the source class of their format"
            )
        return sorted(found)
    if _is_glob(pattern):
        found = sorted(matching_files(path)) if local else _matches_elsewhere(filesystem, path)
        if found:
            return found
        if not local:
            _raise_refusal(filesystem, path)
        raise DataFilesNotFoundError(
            f"No file matches {pattern!r}.\n"
            "  mend: check the folder and the extension; '**' is needed to search sub-folders"
        )
    if not local:
        with contextlib.suppress(FileNotFoundError):
            filesystem.info(path)  # asked whether a file is there, some clients say no where they could not ask
    raise DataFilesNotFoundError(f"There is no file {pattern!r}.\n  mend: {_mend_missing(filesystem, path)}")


def _matches_elsewhere(filesystem: AbstractFileSystem, path: str) -> list[str]:
    entries: dict[str, dict[str, Any]] = {}
    with contextlib.suppress(FileNotFoundError):  # what some say where there is no such bucket
        entries = cast(dict[str, dict[str, Any]], filesystem.glob(path, detail=True))
    return sorted(name for name, info in entries.items() if info["type"] == "file")


def _log_unread(pattern: str, names: Sequence[str], extensions: Sequence[str]) -> None:
    """Says which files of a folder may hold rows and are not read."""
    packed = [name for name in names if _may_hold_rows(name.rpartition("/")[2].lower(), extensions)]
    if packed:
        shown = ", ".join(packed[:5]) + (", …" if len(packed) > 5 else "")
        logger.warning("The folder %r holds %d files that are not read: %s", pattern, len(packed), shown)


def _may_hold_rows(name: str, extensions: Sequence[str]) -> bool:
    stem, _, _ = name.rpartition(".")
    return not name.startswith((".", "_")) and (name.endswith(_ARCHIVES) or stem.endswith(tuple(extensions)))


def _some(extensions: Sequence[str]) -> str:
    return ", ".join(extensions[:8]) + (", …" if len(extensions) > 8 else "")


def _refuse_unfinished(filesystem: AbstractFileSystem, searched: str, paths: Sequence[str]) -> None:
    """Raises if a glob or a folder found files of a set that its writer has not finished."""
    top = _fixed_folder(searched) if _is_glob(searched) else searched
    folders = {top}
    for path in paths:
        while len(path := path.rpartition("/")[0]) > len(top):
            folders.add(path)
    for folder in sorted(folders):
        if _is_unfinished(filesystem, f"{folder}/{_MANIFEST}"):
            raise UnfinishedFilesError(
                f"The files in {folder} belong to a set that was not written to its end, as its {_MANIFEST} says.\n"
                "  mend: run again what writes it, which goes on where it stopped; or name single files"
            )


def _is_unfinished(filesystem: AbstractFileSystem, manifest: str) -> bool:
    if not filesystem.isfile(manifest):
        return False
    try:
        content = json.loads(filesystem.cat_file(manifest))
    except ValueError:  # somebody else's file
        return False
    return isinstance(content, dict) and content.get("complete") is False


def _raise_refusal(filesystem: AbstractFileSystem, path: str) -> None:
    """Raises what the server says to listing the folder of a glob: globbing takes wrong credentials for no files."""
    with contextlib.suppress(FileNotFoundError):
        filesystem.ls(_fixed_folder(path))


def _fixed_folder(pattern: str) -> str:
    """Returns the folder that all matches of a glob are in, at whatever depth."""
    return re.split(r"[*?[]", pattern, maxsplit=1)[0].rpartition("/")[0]


def _fetch_whole(filesystem: AbstractFileSystem, path: str) -> BinaryIO:
    """Returns a temporary copy of a file whose server cannot read from the middle."""
    with contextlib.ExitStack() as on_failure:
        copy = on_failure.enter_context(tempfile.SpooledTemporaryFile(_MEMORY_BYTES))
        with filesystem.open(path, "rb", block_size=0) as stream:
            shutil.copyfileobj(cast(BinaryIO, stream), copy)
        copy.seek(0)
        on_failure.pop_all()  # whole: from here on the caller closes it
    return cast(BinaryIO, copy)


def _is_web(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def _is_data_file(relative: str, extensions: Sequence[str]) -> bool:
    hidden = any(part.startswith((".", "_")) for part in relative.strip("/").split("/"))
    return not hidden and relative.lower().endswith(tuple(extensions))


def _is_glob(pattern: str) -> bool:
    # In a web address "?" begins the query.
    magic = "*[" if _is_web(pattern) else "*?["
    return any(character in pattern for character in magic)


def _mend_missing(filesystem: AbstractFileSystem, path: str) -> str:
    if not _is_local(filesystem):
        return "check the bucket, the path and the credentials in storage_options"
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        return f"the folder {folder!r} does not exist either"
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    return f"the folder {folder!r} holds: {shown or 'nothing'}"


def _filesystem(url: str, options: Mapping[str, Any]) -> tuple[AbstractFileSystem, str]:
    import fsspec

    protocol = url.partition("://")[0] if "://" in url else "file"
    if protocol == "file" and "::" not in url:
        return fsspec.filesystem("file"), os.path.abspath(os.path.expanduser(url.removeprefix("file://")))
    try:
        if protocol in {"http", "https"}:
            from easydata_sources.storage.web_client import web_options

            options = web_options(options)
        return fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        module, extra = _EXTRAS.get(protocol, (str(error), protocol))
        raise MissingExtraError(f"Reading {protocol}:// addresses", module=module, extra=extra) from error
    except ValueError as error:
        if "Protocol not known" not in str(error):
            raise
        raise DataError(
            f"Nothing reads addresses that begin with {protocol}:// ({url!r}).\n"
            "  mend: use a local path, s3://, gs://, az://, abfs://, hf://, http(s):// or another fsspec protocol"
        ) from error


def _is_local(filesystem: AbstractFileSystem) -> bool:
    from fsspec.implementations.local import LocalFileSystem

    return isinstance(filesystem, LocalFileSystem)


def locate(url: PathLike, storage_options: Mapping[str, Any] | None = None) -> tuple[AbstractFileSystem, str, bool]:
    """Returns the file system that a path or URL is on, its path there, and whether that is over a network.

    Raises:
        MissingExtraError: If the protocol needs a package that is not installed.
    """
    filesystem, path = _filesystem(os.fspath(url), dict(storage_options or {}))
    return filesystem, path, not _is_local(filesystem)
