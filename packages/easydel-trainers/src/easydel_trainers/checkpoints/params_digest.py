"""A short name for the values of parameters, so that a checkpoint knows the weights it began with or belongs to."""

from __future__ import annotations

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from easydel_models.mesh.sharding import to_host
from jaxtyping import Array, UInt32

_CHUNK = 1 << 22
_WORD = 1 << 32


def params_digest(params: Any) -> str | None:
    r"""Returns a hash of every array's path, type, shape and all its bits, the same on any devices; `None` of no
    parameters.

    The bits $b_i$ of an array enter as $\sum_i b_i$ and $\sum_i (2i + 1)\, b_i$ modulo $2^{32}$: sums of whole numbers,
    which devices add up where the parts lie, in any order, as fast as they read them.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        return None
    on_host = jax.default_backend() == "cpu" and jax.process_count() == 1
    sums = [_sums_on_host(np.asarray(leaf)) for _, leaf in leaves] if on_host else _sums_on_devices(leaves)
    digest = hashlib.blake2b(digest_size=16)
    for (path, leaf), (plain, weighted) in zip(leaves, sums, strict=True):
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape} {plain} {weighted};".encode())
    return digest.hexdigest()


def _sums_on_host(array: np.ndarray) -> tuple[int, int]:
    flat = np.ascontiguousarray(array).reshape(-1)
    bits = flat.view(np.dtype(f"u{flat.dtype.itemsize}"))
    plain = weighted = 0
    for start in range(0, bits.size, _CHUNK):
        part = bits[start : start + _CHUNK].astype(np.uint32)
        weights = np.arange(start, start + part.size, dtype=np.uint64).astype(np.uint32) * np.uint32(2) + np.uint32(1)
        plain += int(part.sum(dtype=np.uint64))
        weighted += int((part * weights).sum(dtype=np.uint64))
    return plain % _WORD, weighted % _WORD


def _sums_on_devices(leaves: list[tuple[Any, jax.Array]]) -> list[tuple[int, int]]:
    sums = to_host(_sums([leaf for _, leaf in leaves]))
    return [(int(plain), int(weighted)) for plain, weighted in sums]


@jax.jit
def _sums(leaves: list[jax.Array]) -> UInt32[Array, "leaves 2"]:
    return jnp.stack([_sums_of(leaf) for leaf in leaves])


def _sums_of(leaf: jax.Array) -> UInt32[Array, "2"]:
    kind = jnp.dtype(f"uint{leaf.dtype.itemsize * 8}")
    bits = (leaf if leaf.dtype == kind else jax.lax.bitcast_convert_type(leaf, kind)).astype(jnp.uint32)
    # The number of each position in the flat array, without flattening, which would gather what devices share.
    number, stride = jnp.zeros(leaf.shape, jnp.uint32), 1
    for axis in reversed(range(leaf.ndim)):
        number += jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis) * jnp.uint32(stride % _WORD)
        stride *= leaf.shape[axis]
    weighted = bits * (2 * number + 1)
    return jnp.stack([bits.sum(dtype=jnp.uint32), weighted.sum(dtype=jnp.uint32)])
