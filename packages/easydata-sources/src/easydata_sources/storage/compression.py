"""Opening files whose name says how they are compressed; what lies in front of a damage is still read."""

from __future__ import annotations

from typing import BinaryIO, cast

from easydata_sources.errors import DataFormatError
from easydata_sources.storage.decompression import DamageError, open_pieces
from easydata_sources.storage.files import DataFile

COMPRESSIONS = {
    ".gz": "gzip",
    ".bz2": "bzip2",
    ".xz": "xz",
    ".lzma": "xz",
    ".zst": "zstd",
    ".zstd": "zstd",
    ".lz4": "lz4",
}
"""Extension -> codec."""

_SKIP_BYTES = 1 << 20


def compression_of(file: DataFile) -> str | None:
    """Returns the codec that the file's extension names; None = plain."""
    return next((codec for ending, codec in COMPRESSIONS.items() if file.filename.endswith(ending)), None)


def with_compressions(extensions: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the extensions, each also followed by every compression's."""
    return tuple(extension + ending for ending in ("", *COMPRESSIONS) for extension in extensions)


def open_at(file: DataFile, offset: int = 0) -> BinaryIO:
    """Opens for reading bytes from `offset` of the uncompressed content on.

    Plain files seek. Compressed ones cannot: what comes before is decompressed and thrown away. Their `read` gives all
    that can be decompressed, and only then raises `DataFormatError` if the file is damaged or cut off.
    """
    codec = compression_of(file)
    if codec is None:
        raw = file.open()
        raw.seek(offset)
        return raw
    stream = _Decompressed(file, codec)
    while offset > 0:
        skipped = len(stream.read(min(offset, _SKIP_BYTES)))
        if not skipped:
            break
        offset -= skipped
    return cast(BinaryIO, stream)


class _Decompressed:
    """The content of a compressed file, as far as it goes."""

    def __init__(self, file: DataFile, codec: str) -> None:
        self._file = file
        self._codec = codec
        self._pieces = open_pieces(file, codec)
        self._rest = b""
        self._failure: Exception | None = None

    def read(self, size: int) -> bytes:
        """Returns `size` bytes, fewer only at the end or in front of a failure, which the next call raises."""
        parts = [self._rest]
        held = len(self._rest)
        while held < size and self._failure is None:
            try:
                piece = self._pieces.next_piece()
            except Exception as error:  # noqa: BLE001 - raised later, whether from the decoder or the network
                self._failure = error
                break
            if not piece:
                break
            parts.append(piece)
            held += len(piece)
        data = b"".join(parts)
        self._rest = data[size:]
        if not data and self._failure is not None:
            raise self._as_data_error(self._failure) from self._failure
        return data[:size]

    def close(self) -> None:
        self._pieces.close()

    def __enter__(self) -> _Decompressed:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _as_data_error(self, error: Exception) -> Exception:
        if not isinstance(error, DamageError):
            return error
        return DataFormatError(
            f"The file cannot be decompressed as {self._codec}.",
            file=self._file.name,
            found=str(error),
            expected=f"a complete {self._codec} file",
            mend="copy or download it again; it is damaged or was cut off",
            reason="damaged_file",
        )
