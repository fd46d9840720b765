"""What the rows of a source depend on, in plain values that can be stored and compared.

Two sources of equal identity give equal rows in an equal order. So whoever keeps something that was made of rows, such
as a checkpoint or a set of tokens, keeps their identity beside it, and a file that was edited to equal size, a list in
another order or a function with another body is not taken for the old one. Where something lies does not count.

What cannot be known is named under `UNIDENTIFIED`, so that the user can be told.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from easydata_sources.function_identity import UNIDENTIFIED, digest, function_identity, settings_identity, settings_of
from easydata_sources.storage.server_faults import raising_data_errors
from easydata_sources.types import Identity, Row

if TYPE_CHECKING:
    import pyarrow as pa

    from easydata_sources.storage.files import DataFile

__all__ = [
    "UNIDENTIFIED",
    "file_identity",
    "function_identity",
    "identity_digest",
    "rows_digest",
    "settings_identity",
    "settings_of",
    "table_identity",
    "unidentified",
]

_WHOLE_BYTES = 1 << 26  # of a local file that are read to its end: a tenth of a second
_SAMPLES, _SAMPLE_BYTES = 256, 1 << 14  # of a larger one
_SLICE_ROWS = 1024
_SAMPLED_SLICES = 64
#: What servers say of a file that changes with its content, in the words of several of them.
_VERSION_KEYS = ("etag", "ETag", "md5Hash", "content_md5", "LastModified", "last_modified", "updated", "mtime")


def unidentified(identity: Any) -> Iterator[str]:
    """Yields what an identity says is not known."""
    if isinstance(identity, Mapping):
        for key, value in identity.items():
            if key == UNIDENTIFIED:
                yield str(value)
            else:
                yield from unidentified(value)
    elif isinstance(identity, list | tuple):
        for value in identity:
            yield from unidentified(value)


def identity_digest(identity: Any) -> str:
    """Returns a short name for an identity."""
    return digest([json.dumps(identity, sort_keys=True).encode()])


def file_identity(file: DataFile) -> Identity:
    """Returns what identifies the content of one file: a checksum, or of large and remote files what stands for one.

    A large local file is known by its size, its time, and samples over its length; a remote one by what its server
    says.
    """
    filesystem, path = file.located()
    if file.remote:
        with raising_data_errors(file.url, file.storage_options):
            info = filesystem.info(path)
        versions = {key: str(info[key]) for key in _VERSION_KEYS if info.get(key) is not None}
        known = {"bytes": info.get("size"), **versions}
        if not versions and (known["bytes"] or 0) <= _WHOLE_BYTES:
            return _whole(file)
        return known if versions else {**known, UNIDENTIFIED: "whether a file of equal size is the same one"}
    info = filesystem.info(path)
    size = info["size"]
    if size <= _WHOLE_BYTES:
        return _whole(file)
    with file.open() as opened:
        steps = range(0, size - _SAMPLE_BYTES + 1, (size - _SAMPLE_BYTES) // (_SAMPLES - 1))
        samples = (opened.read(_SAMPLE_BYTES) for at in [*steps, size - _SAMPLE_BYTES] if opened.seek(at) >= 0)
        return {"bytes": size, "samples": digest(samples), "changed": str(info["mtime"])}


def _whole(file: DataFile) -> Identity:
    size = 0

    def blocks() -> Iterator[bytes]:
        nonlocal size
        while block := opened.read(1 << 20):
            size += len(block)
            yield block

    with file.open() as opened:
        content = digest(blocks())
    return {"bytes": size, "content": content}


def rows_digest(rows: Sequence[Row]) -> str:
    """Returns a digest of rows in memory: their keys and values, in order."""
    return digest(json.dumps(row, default=_as_plain).encode() for row in rows)


def table_identity(rows: int, take: Callable[[int, int], pa.Table], *, nbytes: int) -> Identity:
    """Returns what identifies the content of a table.

    Args:
        rows: Its length.
        take: Returns the rows from a number to another one.
        nbytes: Its size; of large tables evenly spaced rows stand for all.
    """
    starts = range(0, rows, _SLICE_ROWS)
    whole = nbytes <= _WHOLE_BYTES
    if not whole:
        starts = [*starts[:: max(1, len(starts) // _SAMPLED_SLICES)], max(0, rows - _SLICE_ROWS)]
    content = digest(
        batch.serialize().to_pybytes()
        for start in starts
        for batch in take(start, min(start + _SLICE_ROWS, rows)).combine_chunks().to_batches()
    )
    return {"rows": rows, "content" if whole else "samples": content}


def _as_plain(value: Any) -> str:
    """Returns text for a value of a row that JSON has no word for."""
    if hasattr(value, "tobytes"):
        return f"{value.dtype}{list(value.shape)}{value.tobytes().hex()}"
    return value.hex() if isinstance(value, bytes) else f"{type(value).__qualname__} {value!r}"
