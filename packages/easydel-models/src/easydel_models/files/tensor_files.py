"""safetensors files: read lazily tensor by tensor, written tensor by tensor.

The format (https://github.com/huggingface/safetensors#format): 8 bytes little-endian length of the header,
the header as JSON {name: {dtype, shape, data_offsets}}, then the raw numbers, C order, little-endian. The
library reads; writing is done here, because the library wants all tensors of a file in memory at once.
"""

import dataclasses
import itertools
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from easydel_models.config import CarriedTensor
from easydel_models.errors import ModelNotFoundError, WeightsError
from easydel_models.files.json_file import read_json_object
from easydel_models.files.mxfp4 import HALVES
from easydel_models.safe_text import quoted

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

_READ_FORMATS = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
_FORMAT_NAMES = {dtype: name for name, dtype in _READ_FORMATS.items()}
_BYTES = {"U8": np.dtype(np.uint8)}  # only where it is known what they mean


@dataclasses.dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of one safetensors file, not read yet."""

    name: str
    shape: tuple[int, ...]
    path: Path
    dtype: np.dtype
    """What it is stored in."""

    @property
    def origin(self) -> str:
        """The file's name."""
        return self.path.name

    def load(self) -> np.ndarray:
        """Reads it, in the dtype it is stored in."""
        with safe_open(self.path, framework="numpy") as file:
            return file.get_tensor(self.name)


def open_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Returns the tensors of ``folder``: of model.safetensors, or of the shards that its index lists.

    Raises:
        ModelNotFoundError: If there is neither, or a shard is missing.
        WeightsError: If a file is cut short or the index disagrees with the shards.
    """
    if (folder / INDEX).is_file():
        return _open_shards(folder)
    if (folder / SINGLE).is_file():
        return open_file(folder / SINGLE)
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in {".bin", ".pt", ".pth"})
    hint = f" {', '.join(pickled[:4])} is pickled, which is never read: convert it." if pickled else ""
    raise ModelNotFoundError(f"{folder}: neither {SINGLE} nor {INDEX} is there.{hint}")


def open_file(path: Path) -> dict[str, StoredTensor]:
    """Returns the tensors of one file.

    Raises:
        WeightsError: If it is cut short, or holds numbers that are no floats.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            shapes = {name: tuple(slices[name].get_shape()) for name in slices}
            kinds = {name: slices[name].get_dtype() for name in slices}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is no whole safetensors file ({error}); fetch or save it again.") from error
    odd = {
        name: kind
        for name, kind in kinds.items()
        if kind not in _READ_FORMATS and not (kind in _BYTES and name.endswith(HALVES))
    }
    if odd:
        name, kind = next(iter(odd.items()))
        raise WeightsError(
            f"{path} stores {quoted(name)} and {len(odd) - 1} other tensors as {kind}: whole numbers, or a "
            f"quantization that means nothing by itself. Expected: {', '.join(_READ_FORMATS)}. Take the model that was "
            "not quantized, or a .gguf file."
        )
    formats = _READ_FORMATS | _BYTES
    return {name: StoredTensor(name, shape, path, formats[kinds[name]]) for name, shape in shapes.items()}


def write_tensors(
    folder: Path,
    tensors: Iterable[tuple[str, np.ndarray]],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    dtype: np.dtype,
    max_shard_size: int,
    carried: Sequence[CarriedTensor] = (),
) -> None:
    """Writes one file, or shards and their index; holds one tensor at a time.

    Args:
        folder: Where to.
        tensors: Names and values, in the order of `shapes`.
        shapes: All names with their shapes.
        dtype: Of all these tensors.
        max_shard_size: Most bytes of numbers in a file; a tensor larger than that has a file of its own.
        carried: Further tensors, written behind the others as they are.
    """
    dtypes = dict.fromkeys(shapes, dtype) | {tensor.name: tensor.dtype for tensor in carried}
    shapes = {**shapes, **{tensor.name: tensor.shape for tensor in carried}}
    tensors = itertools.chain(tensors, ((tensor.name, tensor.load()) for tensor in carried))
    sizes = {name: math.prod(shape) * dtypes[name].itemsize for name, shape in shapes.items()}
    shards = plan_shards(sizes, max_shard_size=max_shard_size)
    stream = iter(tensors)
    weight_map = {}
    for number, names in enumerate(shards, start=1):
        file_name = SINGLE if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        weight_map |= dict.fromkeys(names, file_name)
        write_file(folder / file_name, stream, {name: shapes[name] for name in names}, dtypes)
    if len(shards) > 1:
        total = sum(sizes.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def write_file(
    path: Path,
    stream: Iterator[tuple[str, np.ndarray]],
    shapes: Mapping[str, tuple[int, ...]],
    dtypes: Mapping[str, np.dtype],
) -> None:
    """Writes one file from the next tensors of ``stream``, which have ``shapes``, in that order."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + math.prod(shape) * dtypes[name].itemsize
        header[name] = {"dtype": _FORMAT_NAMES[dtypes[name]], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # numbers start on a multiple of 8 bytes
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            found, tensor = next(stream)
            _check_stream(name, shape, found, tensor)
            file.write(np.ascontiguousarray(tensor.astype(dtypes[name], copy=False)).view(np.uint8).data)
        file.flush()
        os.fsync(file.fileno())


def plan_shards(sizes: Mapping[str, int], *, max_shard_size: int) -> list[list[str]]:
    """Cuts tensors of so many bytes, in order, into files of at most ``max_shard_size`` bytes of numbers."""
    shards: list[list[str]] = []
    room = 0
    for name, size in sizes.items():
        if not shards or size > room:
            shards.append([])
            room = max_shard_size
        shards[-1].append(name)
        room -= size
    return shards


def _open_shards(folder: Path) -> dict[str, StoredTensor]:
    weight_map = read_json_object(folder / INDEX, error=WeightsError).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise WeightsError(
            f"{folder / INDEX} has the weight_map {quoted(weight_map)}; expected an object of tensor names, each with "
            "the name of the file that holds it."
        )
    tensors: dict[str, StoredTensor] = {}
    for file_name in sorted(set(weight_map.values())):
        # A name with a path in it would read from outside the folder.
        if Path(file_name).name != file_name or not _is_file(folder / file_name):
            raise ModelNotFoundError(
                f"{folder / INDEX} lists the shard {quoted(file_name)}, which is not in the folder; fetch it again."
            )
        tensors |= open_file(folder / file_name)
    lost = sorted(set(weight_map) - set(tensors))
    if lost:
        raise WeightsError(
            f"{folder / INDEX} lists {len(lost)} tensors that no shard holds, first {lost[0]}; "
            "index and shards are of different models."
        )
    return tensors


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than the file system has
        return False


def _check_stream(name: str, shape: Sequence[int], found: str, tensor: np.ndarray) -> None:
    if name != found or tuple(shape) != tensor.shape:
        raise WeightsError(f"expected {name} of shape {tuple(shape)} next, got {found} of shape {tensor.shape}.")
