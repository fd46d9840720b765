"""The GGUF container: its metadata and where its tensors lie, read without touching a tensor.

The format (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), little-endian: magic, version, counts,
then key-value pairs, then per tensor a name, the shape (innermost axis first), a number format and an offset,
then the aligned data. Headers are walked here, with every length checked against the file's; the `gguf`
package's own reader makes several objects for each word of the vocabulary, seconds for lists nobody asked
for. Its dequantizers are used.
"""

import dataclasses
import math
import mmap
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from easydel_models.config_values import is_whole
from easydel_models.errors import MissingExtraError, ModelNotFoundError, WeightsError
from easydel_models.safe_text import quoted

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_SCALARS = dict(enumerate(("<u1", "<i1", "<u2", "<i2", "<u4", "<i4", "<f4", "?"))) | {
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
_STRING, _ARRAY = 8, 9
_MAX_DIMS = 4
_MOST_ALIGNMENT = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GGUFTensor:
    """One tensor of a GGUF file, not read yet."""

    name: str
    shape: tuple[int, ...]
    """Outermost axis first, the reverse of what the file says: [out, in] for a kernel."""
    format: int
    """The ggml number of its format, quantized or not."""
    offset: int
    """Bytes from the start of the file."""
    size: int
    """Bytes in the file."""
    path: Path

    @property
    def origin(self) -> str:
        """The file's name."""
        return self.path.name

    def load(self) -> np.ndarray:
        """Reads it and turns it into float32.

        Raises:
            WeightsError: If the installed `gguf` cannot dequantize its format.
        """
        gguf = require_gguf(self.path)
        kind = gguf.GGMLQuantizationType(self.format)
        with self.path.open("rb") as file:
            file.seek(self.offset)
            raw = np.fromfile(file, np.uint8, self.size)
        try:
            values = gguf.quants.dequantize(raw.reshape(math.prod(self.shape[:-1]), -1), kind)
        except NotImplementedError as error:
            raise WeightsError(
                f"{self.path}: tensor {self.name} is stored as {kind.name}, which the gguf package cannot "
                "dequantize; take a file in another format, Q8_0 or F16 for instance."
            ) from error
        return values.reshape(self.shape)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GGUFFile:
    """What a GGUF file says about itself."""

    path: Path
    metadata: Mapping[str, Any]
    """Scalars, strings, and arrays of numbers (as NumPy arrays). Lists of strings, the vocabulary, are left out."""
    tensors: Mapping[str, GGUFTensor]


def open_gguf(path: str | os.PathLike[str]) -> GGUFFile:
    """Reads the header of a GGUF file.

    Raises:
        ImportError: If the extra ``gguf`` is not installed.
        ModelNotFoundError: If there is no such file.
        WeightsError: If it is no GGUF file, cut short, or its header contradicts itself.
    """
    path = Path(path)
    sizes = require_gguf(path).GGML_QUANT_SIZES
    if not path.is_file():
        raise ModelNotFoundError(f"there is no file {path}; expected a .gguf file.")
    if path.stat().st_size == 0:  # an empty file cannot be mapped
        raise _broken(path, 0, "the file is empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _read_header(_HeaderReader(path, data), sizes)


def require_gguf(path: Path) -> Any:
    """Returns the `gguf` package.

    Raises:
        ImportError: If it is not installed, naming the extra.
    """
    try:
        import gguf
    except ImportError as error:
        raise MissingExtraError(
            f"reading {path} needs the gguf package; install it with: pip install 'easydel-models[gguf]'"
        ) from error
    return gguf


class _HeaderReader:
    """Reads a mapped file from front to back and refuses to pass its end."""

    def __init__(self, path: Path, data: mmap.mmap):
        self.path = path
        self.data = data
        self.position = 0

    def take(self, count: int, what: str) -> bytes:
        if count > len(self.data) - self.position:
            raise _broken(self.path, self.position, f"{what} reaches past the end of the file ({len(self.data)} bytes)")
        self.position += count
        return self.data[self.position - count : self.position]

    def integer(self, what: str, code: str = "Q") -> int:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}"), what))[0]

    def text(self, what: str) -> str:
        start = self.position
        try:
            return self.take(self.integer(what), what).decode()
        except UnicodeDecodeError as error:
            raise _broken(self.path, start, f"{what} is no UTF-8 text") from error


def _read_header(reader: _HeaderReader, sizes: Mapping[int, tuple[int, int]]) -> GGUFFile:
    if reader.take(4, "the magic number") != _MAGIC:
        raise _broken(reader.path, 0, "it does not begin with 'GGUF', so it is another kind of file")
    version = reader.integer("the version", "I")
    if version not in _VERSIONS:
        raise _broken(reader.path, 4, f"version {version}, known are {_VERSIONS} in little-endian byte order")
    tensor_count, pair_count = reader.integer("the tensor count"), reader.integer("the key count")
    metadata = {}
    for _ in range(pair_count):
        key = reader.text("a key")
        metadata[key] = _read_value(reader, reader.integer(f"the type of {key}", "I"), key)
    entries = [_read_entry(reader) for _ in range(tensor_count)]
    alignment = metadata.get("general.alignment", 32)
    if not is_whole(alignment) or not 1 <= alignment <= _MOST_ALIGNMENT:
        raise _broken(
            reader.path, reader.position, f"general.alignment is {quoted(alignment)}, expected a number of bytes"
        )
    start = -(-reader.position // alignment) * alignment
    tensors = [_locate(reader, entry, start, sizes) for entry in entries]
    return GGUFFile(
        path=reader.path,
        metadata={key: value for key, value in metadata.items() if value is not None},
        tensors={tensor.name: tensor for tensor in tensors},
    )


def _read_value(reader: _HeaderReader, kind: int, key: str) -> Any:
    """Returns one value; None for a list of strings or of lists."""
    if kind == _STRING:
        return reader.text(key)
    if kind == _ARRAY:
        return _read_array(reader, key)
    return _numbers(reader, kind, 1, key)[0].item()


def _read_array(reader: _HeaderReader, key: str) -> np.ndarray | None:
    kind, count = reader.integer(key, "I"), reader.integer(key)
    if kind == _STRING:
        for _ in range(count):
            reader.take(reader.integer(key), key)
        return None
    return _numbers(reader, kind, count, key)


def _numbers(reader: _HeaderReader, kind: int, count: int, key: str) -> np.ndarray:
    if kind not in _SCALARS:
        raise _broken(reader.path, reader.position, f"key {key} has the unknown type {kind}")
    dtype = np.dtype(_SCALARS[kind])
    return np.frombuffer(reader.take(count * dtype.itemsize, key), dtype)


def _read_entry(reader: _HeaderReader) -> tuple[str, tuple[int, ...], int, int]:
    """(name, shape, format, offset from the start of the data) of one tensor."""
    name = reader.text("a tensor's name")
    axes = reader.integer(f"the shape of {name}", "I")
    if axes > _MAX_DIMS:
        raise _broken(reader.path, reader.position, f"tensor {name} has {axes} axes, at most {_MAX_DIMS} are possible")
    shape = tuple(reader.integer(f"the shape of {name}") for _ in range(axes))
    return name, shape[::-1], reader.integer(f"the format of {name}", "I"), reader.integer(f"the offset of {name}")


def _locate(
    reader: _HeaderReader,
    entry: tuple[str, tuple[int, ...], int, int],
    start: int,
    sizes: Mapping[int, tuple[int, int]],
) -> GGUFTensor:
    name, shape, number_format, offset = entry
    if number_format not in sizes:
        raise _broken(reader.path, reader.position, f"tensor {name} has the unknown format {number_format}")
    block, block_bytes = sizes[number_format]
    if not shape or 0 in shape or shape[-1] % block:
        raise _broken(reader.path, reader.position, f"tensor {name} of shape {shape} is not made of blocks of {block}")
    size = math.prod(shape) // block * block_bytes
    if start + offset + size > len(reader.data):
        raise _broken(
            reader.path,
            start + offset,
            f"tensor {name} of {size} bytes reaches past the end of the file ({len(reader.data)} bytes)",
        )
    return GGUFTensor(name=name, shape=shape, format=number_format, offset=start + offset, size=size, path=reader.path)


def _broken(path: Path, at: int, what: str) -> WeightsError:
    return WeightsError(f"{path} is no whole GGUF file: at byte {at}, {what}. Fetch the file again.")
