"""What tells a file from another one that lies in its place later."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SAMPLES, _SAMPLE_BYTES = 16, 1 << 12  # a file of 64 KiB is read whole
_TAGS = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "last_modified", "updated", "mtime")


@dataclass(frozen=True, kw_only=True, slots=True)
class FileStamp:
    """A file as it was at some time; None = unknown."""

    size: int | None = None
    """Bytes."""
    version: str | None = None
    """Time of its last change, or the server's tag of its content."""
    samples: str | None = None
    """Digest of pieces of its content: a file that was only touched, or copied, has the same."""

    def is_same(self, *, size: int, version: str) -> bool:
        """Returns whether size and version are the known ones."""
        return (self.size, self.version) == (size, version)

    def differs(self, other: FileStamp) -> bool:
        """Returns whether it is another file, as far as both know."""
        if None not in (self.size, other.size) and self.size != other.size:
            return True
        if None in (self.version, other.version) or self.version == other.version:
            return False
        return None in (self.samples, other.samples) or self.samples != other.samples


def stamp_of_local(path: str) -> FileStamp:
    """Returns the stamp of a file on the local disk."""
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        last = max(0, status.st_size - _SAMPLE_BYTES)
        step = max(_SAMPLE_BYTES, last // (_SAMPLES - 1))
        digest = hashlib.blake2b(digest_size=16)
        for start in (*range(0, last, step), last):
            file.seek(start)
            digest.update(file.read(_SAMPLE_BYTES))
    return FileStamp(size=status.st_size, version=str(status.st_mtime_ns), samples=digest.hexdigest())


def stamp_of_remote(info: Mapping[str, Any]) -> FileStamp:
    """Returns the stamp of a file by what its server says of it."""
    version = next((str(info[tag]) for tag in _TAGS if info.get(tag)), None)
    return FileStamp(size=info.get("size"), version=version)
