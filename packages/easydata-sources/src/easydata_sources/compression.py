"""Opening files whose extension says how they are compressed.

pyarrow brings gzip and Zstandard decompression with it, so neither needs another package.
"""

from __future__ import annotations

from typing import BinaryIO, cast

from easydata_sources.errors import DataFormatError
from easydata_sources.files import DataFile

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
"""Extension -> codec."""

_SKIP_BYTES = 1 << 20


def compression_of(file: DataFile) -> str | None:
    """Return the codec that the file's extension names; None = plain."""
    return next((codec for ending, codec in COMPRESSIONS.items() if file.url.lower().endswith(ending)), None)


def with_compressions(extensions: tuple[str, ...]) -> tuple[str, ...]:
    """Return the extensions, each also followed by every compression's."""
    return tuple(extension + ending for ending in ("", *COMPRESSIONS) for extension in extensions)


def open_at(file: DataFile, offset: int = 0) -> BinaryIO:
    """Open for reading bytes from `offset` of the uncompressed content on.

    Plain files seek. Compressed ones cannot: what comes before is decompressed and thrown away.
    """
    raw = file.open()
    codec = compression_of(file)
    if codec is None:
        raw.seek(offset)
        return raw
    import pyarrow as pa

    stream = cast(BinaryIO, pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), codec))
    while offset > 0:
        skipped = len(read_block(stream, file, min(offset, _SKIP_BYTES)))
        if not skipped:
            break
        offset -= skipped
    return stream


def read_block(stream: BinaryIO, file: DataFile, size: int) -> bytes:
    """Return up to `size` bytes.

    Raises:
        DataFormatError: If the file is compressed and damaged or cut off.
    """
    codec = compression_of(file)
    if codec is None:
        return stream.read(size)
    try:
        return stream.read(size)
    except OSError as error:
        # pyarrow reports damaged data as an OSError without a number; the system's and the network's have
        # one.
        if error.errno is not None or file.remote:
            raise
        raise DataFormatError(
            f"The file cannot be decompressed as {codec}.",
            file=file.name,
            found=str(error),
            expected=f"a complete {codec} file",
            mend="copy or download it again; it is damaged or was cut off",
            reason="damaged_file",
        ) from error
