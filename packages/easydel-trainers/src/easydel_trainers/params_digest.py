"""A short name for the values of parameters, so that a checkpoint of adapters knows the base model it belongs to."""

from __future__ import annotations

import hashlib
from typing import Any

import jax
import numpy as np
from easydel_models.mesh.sharding import to_host

_SAMPLES = 1024  # of each array: enough to tell two models apart, and quick for any size


def params_digest(params: Any) -> str | None:
    """A hash of every array's path, type, shape and evenly spaced samples of its values; `None` of no parameters."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        return None
    digest = hashlib.blake2b(digest_size=16)
    for path, leaf in leaves:
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}".encode())
        digest.update(np.ascontiguousarray(to_host(_samples(leaf))).tobytes())
    return digest.hexdigest()


@jax.jit
def _samples(leaf: jax.Array) -> jax.Array:
    flat = leaf.reshape(-1)
    return flat[:: max(1, flat.size // _SAMPLES)]
