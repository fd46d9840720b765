"""File systems that count what is read and fail on demand, standing in for buckets."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any

import fsspec
import pytest
from fsspec import AbstractFileSystem


@dataclass
class Bucket:
    """Files of the `bucket://` protocol, what was read of them, and what shall go wrong."""

    files: dict[str, bytes] = field(default_factory=dict)
    bytes_read: int = 0
    opened: int = 0
    fail_at_reads: set[int] = field(default_factory=set)
    """Numbers of read calls, counted over all files, that raise an OSError."""
    reads: int = 0
    key: str | None = None
    """If set, storage_options must bring it."""


BUCKET = Bucket()


class BucketFileSystem(AbstractFileSystem):
    """`bucket://container/path`, listed and read from `BUCKET`."""

    protocol = "bucket"
    cachable = False

    def __init__(self, key: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.key = key

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        self._authorise()
        path = self._strip_protocol(path).rstrip("/")
        entries: dict[str, dict[str, Any]] = {}
        for name, data in BUCKET.files.items():
            if name == path:
                entries[name] = {"name": name, "size": len(data), "type": "file"}
            elif name.startswith(path + "/") or not path:
                rest = name[len(path) :].lstrip("/")
                child = "/".join(filter(None, [path, rest.split("/")[0]]))
                kind = "directory" if "/" in rest else "file"
                entries[child] = {"name": child, "size": len(data), "type": kind}
        if not entries:
            raise FileNotFoundError(path)
        return list(entries.values()) if detail else list(entries)

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        self._authorise()
        BUCKET.opened += 1
        return _BucketFile(BUCKET.files[path])

    def _authorise(self) -> None:
        if BUCKET.key is not None and self.key != BUCKET.key:
            raise PermissionError("wrong key")


class _BucketFile(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        BUCKET.reads += 1
        if BUCKET.reads in BUCKET.fail_at_reads:
            raise OSError("connection reset")
        data = super().read(size)
        BUCKET.bytes_read += len(data)
        return data


@pytest.fixture
def bucket() -> Bucket:
    """Return an empty `bucket://`."""
    BUCKET.__init__()
    fsspec.register_implementation("bucket", BucketFileSystem, clobber=True)
    return BUCKET
