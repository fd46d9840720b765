"""An adapter's tensors as PEFT names and lays them out.

A linear layer's are A [rank, in] and B [out, rank] under its name in transformers. The kernels of all experts are one
parameter there; its A is [experts * rank, in], expert behind expert, its B [out, rank * experts], the experts' columns
alternating. Of several adapted parameters of a module each wraps the one before it.

Linear layers that a file holds in one module have one adapter there. Written together, those of n layers of the same
inputs are one of n times the rank: A holds theirs one below the other, B along its diagonal. One that `peft` made of
the module shares its A among them.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from easydel_models.errors import LoraError
from easydel_models.files.weights import HeldKernel
from easydel_models.layers.linear import LORA_A, LORA_B
from easydel_models.layers.parameter import ParameterSpec
from easydel_models.mesh.sharding import to_host

PREFIX = "base_model.model."

_F32 = np.dtype(np.float32)


def lora_tensors(kernels: Sequence[HeldKernel], flat: Mapping[str, Array]) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the tensors of all adapters under their names in a file.

    Args:
        kernels: Those adapted, in the family's order.
        flat: Parameters by dotted path.
    """
    for kernel, begins in zip(kernels, _beginnings(kernels), strict=True):
        pairs = [(to_host(flat[path + LORA_A]), to_host(flat[path + LORA_B])) for path in kernel.paths]
        for layer, begin in enumerate(begins):
            own = [(_by_expert(a[layer]), _by_expert(b[layer])) for a, b in pairs]
            # Side by side in one module, adapters of several linear layers are one of as many times the rank.
            a = np.concatenate([one.swapaxes(1, 2) for one, _ in own], axis=1)
            blocks = zip(*(one.swapaxes(1, 2) for _, one in own), strict=True)
            b = np.stack([_block_diagonal(of_expert)[kernel.outputs] for of_expert in blocks])
            yield f"{begin}.lora_A.weight", np.ascontiguousarray(a.reshape(-1, a.shape[2]))
            yield f"{begin}.lora_B.weight", np.ascontiguousarray(b.transpose(1, 2, 0).reshape(b.shape[1], -1))


def read_adapters(
    kernels: Sequence[HeldKernel],
    tensors: Mapping[str, np.ndarray],
    specs: Mapping[str, ParameterSpec],
    *,
    rank: int,
    file: Path,
) -> dict[str, Array]:
    """Returns the adapters of the given kernels by path: the reverse of `lora_tensors`.

    Args:
        kernels: Those adapted, in the family's order.
        tensors: All that the file holds.
        specs: Of the model's parameters.
        rank: Of an adapter.
        file: For messages.

    Raises:
        LoraError: If one is missing, of another shape, or left over.
    """
    adapters, used = {}, set()
    for kernel, begins in zip(kernels, _beginnings(kernels), strict=True):
        halves = []
        for begin in begins:
            keys = [f"{begin}.lora_{part}.weight" for part in ("A", "B")]
            halves.append(_of_layer(kernel, keys, tensors, specs, rank=rank, file=file))
            used.update(keys)
        for number, path in enumerate(kernel.paths):
            shape = specs[path].shape[:-2]
            for part, ending in enumerate((LORA_A, LORA_B)):
                array = np.stack([half[number][part] for half in halves])
                adapters[path + ending] = jnp.asarray(array.reshape(len(halves), *shape, *array.shape[2:]))
    if left := sorted(tensors.keys() - used):
        raise LoraError(f"{file} holds {len(left)} tensors that fit nothing in this model, first {left[0]}.")
    return adapters


def module_beginning(module: str) -> str:
    """Returns how the names of a linear layer's adapter begin."""
    return f"{PREFIX}{module}"


def _by_expert(array: np.ndarray) -> np.ndarray:
    """[experts, rows, columns]; what is no experts' is that of one."""
    return array if array.ndim == 3 else array[None]


def _beginnings(kernels: Sequence[HeldKernel]) -> list[list[str]]:
    """Returns how the names of each kernel's adapters begin, layer by layer."""
    of_module: dict[str, list[HeldKernel]] = defaultdict(list)
    for kernel in kernels:
        if not kernel.in_linear_layer:
            of_module[kernel.names[0].rpartition(".")[0]].append(kernel)
    found = []
    for kernel in kernels:
        if kernel.in_linear_layer:
            found.append([module_beginning(name) for name in kernel.names])
            continue
        together = of_module[kernel.names[0].rpartition(".")[0]]
        inside = ".base_layer" * (len(together) - 1 - together.index(kernel))
        found.append([f"{PREFIX}{name.rpartition('.')[0]}{inside}" for name in kernel.names])
    return found


def _of_layer(
    kernel: HeldKernel,
    keys: Sequence[str],
    tensors: Mapping[str, np.ndarray],
    specs: Mapping[str, ParameterSpec],
    *,
    rank: int,
    file: Path,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns a [experts, in, rank] and B [experts, rank, out] of each path; of one expert where there are none."""
    *many, rows, _ = specs[kernel.paths[0]].shape
    experts, columns = (many or [1])[0], [specs[path].shape[-1] for path in kernel.paths]
    ranks = (rank * experts, rank * experts * len(columns))
    _check_shapes(tensors, keys, [[(one, rows), (sum(columns), one)] for one in ranks], file)
    a, b = (tensors[key].astype(_F32) for key in keys)
    b = b[np.argsort(kernel.outputs)].reshape(sum(columns), -1, experts)
    where = f"{file}: {keys[0].removeprefix(PREFIX).removesuffix('.lora_A.weight')}"
    of_experts = [
        _split_adapter(own, b[:, :, expert], columns, rank, where)
        for expert, own in enumerate(a.reshape(experts, -1, rows))
    ]
    return [
        (np.stack([half[0].T for half in halves]), np.stack([half[1].T for half in halves]))
        for halves in zip(*of_experts, strict=True)
    ]


def _check_shapes(
    tensors: Mapping[str, np.ndarray], keys: Sequence[str], possible: Sequence[Sequence[tuple[int, int]]], file: Path
) -> None:
    found = [tensors[key].shape if key in tensors else "missing" for key in keys]
    if found in [list(shapes) for shapes in possible]:
        return
    key, one, shape = next(three for three in zip(keys, found, possible[0], strict=True) if three[1] != three[2])
    raise LoraError(
        f"{file}: {key} is {one}, expected {shape}; the adapters belong to another base model, or adapt it in some "
        "layers only."
    )


def _block_diagonal(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the matrix that has the given ones along its diagonal and is 0 elsewhere."""
    rows, columns = np.cumsum([0, *(one.shape[0] for one in blocks)]), np.cumsum([0, *(one.shape[1] for one in blocks)])
    whole = np.zeros((rows[-1], columns[-1]), blocks[0].dtype)
    for number, block in enumerate(blocks):
        whole[rows[number] : rows[number + 1], columns[number] : columns[number + 1]] = block
    return whole


def _split_adapter(
    a: np.ndarray, b: np.ndarray, columns: Sequence[int], rank: int, where: str
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the adapters of the linear layers that one module holds, as A [rank, in] and B [out, rank].

    Args:
        a: Of the module, [rank, in], or of as many times the rank as there are layers.
        b: Of the module, [out, rank] likewise.
        columns: Outputs of each layer.
        rank: Of ours.
        where: File and module, for messages.

    Raises:
        LoraError: If the module's adapter is of that many times the rank and mixes the layers.
    """
    parts = np.split(b, np.cumsum(columns)[:-1])
    if a.shape[0] == rank:
        return [(a, part) for part in parts]
    own = [part[:, number * rank : (number + 1) * rank] for number, part in enumerate(parts)]
    if not np.array_equal(_block_diagonal(own), b):
        raise LoraError(
            f"{where} has an adapter of rank {a.shape[0]} that mixes its linear layers, which is not computed here; "
            "merge it with peft and load the result."
        )
    return list(zip(np.split(a, len(columns)), own, strict=True))
