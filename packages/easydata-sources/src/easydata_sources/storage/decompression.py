"""Decompressing piece by piece, so that neither a damage nor a file of enormous content costs more than a piece.

gzip, bzip2 and xz by the standard library; Zstandard and LZ4 by pyarrow.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, Protocol, final

from easydata_sources.formats.arrow_input import WatchedFile
from easydata_sources.storage.files import DataFile

if TYPE_CHECKING:
    import pyarrow as pa

PIECE_BYTES = 1 << 14
"""Largest piece: what is lost in front of a damage that is found within it."""

_INPUT_BYTES = 1 << 16
_WINDOW_BYTES = 1 << 28  # xz files name the memory that they want; `xz -9` takes a quarter of this


class DamageError(Exception):
    """A decoder cannot go on with the bytes it got."""


class Pieces(ABC):
    """The content of a compressed file, piece by piece."""

    @abstractmethod
    def next_piece(self) -> bytes:
        """Returns some bytes; none at the end.

        Raises:
            DamageError: If the file is damaged or cut off.
        """

    @abstractmethod
    def close(self) -> None:
        """Closes the file."""


def open_pieces(file: DataFile, codec: str) -> Pieces:
    """Opens a compressed file."""
    return _MemberPieces(file.open(), _DECODERS[codec]) if codec in _DECODERS else _ArrowPieces(file, codec)


class _Decoder(Protocol):
    """What the decompressors of `bz2` and `lzma` do."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """The decompressor of `zlib` with the interface of the others."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        piece = self._decoder.decompress(self._decoder.unconsumed_tail + data, max_length)
        self.needs_input = len(piece) < max_length and not self._decoder.unconsumed_tail
        return piece


_DECODERS: dict[str, Callable[[], _Decoder]] = {
    "gzip": _Gzip,
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(memlimit=_WINDOW_BYTES),
}


@final
class _MemberPieces(Pieces):
    """The members of a file one after the other; zeros behind the last are padding, as `gzip` and `xz` have it."""

    def __init__(self, raw: BinaryIO, new_decoder: Callable[[], _Decoder]) -> None:
        self._raw = raw
        self._new_decoder = new_decoder
        self._decoder: _Decoder | None = None
        self._input = b""
        self._members = 0

    def next_piece(self) -> bytes:
        while True:
            if self._decoder is None:
                if not self._find_member():
                    return b""
                self._decoder, self._members = self._new_decoder(), self._members + 1
            if not self._input and self._decoder.needs_input:
                self._input = self._raw.read(_INPUT_BYTES)
                if not self._input:
                    raise DamageError("the file ends before its content does")
            data, self._input = self._input, b""
            try:
                piece = self._decoder.decompress(data, PIECE_BYTES)
            except (zlib.error, OSError, lzma.LZMAError, EOFError, MemoryError) as error:
                what = f"bytes behind the end ({error})" if self._members > 1 else str(error)
                raise DamageError(what) from error
            if self._decoder.eof:
                self._input, self._decoder = self._decoder.unused_data, None
            if piece:
                return piece

    def close(self) -> None:
        self._raw.close()

    def _find_member(self) -> bool:
        """Goes to the first byte of the next member; False at the end."""
        while True:
            if self._members:
                self._input = self._input.lstrip(b"\0")
            if self._input:
                return True
            self._input = self._raw.read(_INPUT_BYTES)
            if not self._input:
                break
        if not self._members:
            raise DamageError("an empty file (0 bytes)")
        return False


@final
class _ArrowPieces(Pieces):
    """Pieces from pyarrow, which gives nothing of one that it cannot fill: its bytes are then read again singly."""

    def __init__(self, file: DataFile, codec: str) -> None:
        self._file = file
        self._codec = codec
        self._piece_bytes = PIECE_BYTES
        self._returned = 0
        self._raw, self._stream = self._open()

    def next_piece(self) -> bytes:
        try:
            piece = self._read(self._piece_bytes)
        except DamageError:
            if self._piece_bytes == 1:
                raise
            self.close()
            self._raw, self._stream = self._open()
            before = self._returned
            while before:
                before -= len(self._read(min(before, PIECE_BYTES)))
            self._piece_bytes = 1
            piece = self._read(1)
        if not piece and not self._returned and not self._file.size():
            raise DamageError("an empty file (0 bytes)")
        self._returned += len(piece)
        return piece

    def close(self) -> None:
        self._stream.close()
        self._raw.close()

    def _open(self) -> tuple[WatchedFile, pa.NativeFile]:
        import pyarrow as pa

        raw = WatchedFile(self._file.open())
        return raw, pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), self._codec)

    def _read(self, size: int) -> bytes:
        import pyarrow as pa

        try:
            return self._stream.read(size)
        except (OSError, pa.ArrowException) as error:
            if self._raw.failed:
                raise
            raise DamageError(str(error)) from error
