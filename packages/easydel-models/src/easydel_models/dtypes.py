"""Number formats: which names are accepted, and which format computations use by default."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from easydel_models.errors import ConfigError

ALIASES = {
    "fp32": "float32",
    "f32": "float32",
    "bf16": "bfloat16",
    "fp16": "float16",
    "f16": "float16",
}
ACCEPTED = ("float32", "bfloat16", "float16")


def resolve_dtype(dtype: DTypeLike | None) -> np.dtype:
    """Returns the number format named by ``dtype``.

    Args:
        dtype: A name (``"float32"``, ``"bfloat16"``, ``"float16"`` or a short form such as ``"bf16"``), a
            NumPy or JAX dtype, or None for the default of this machine: float32 on CPU, bfloat16 on
                accelerators.

    Raises:
        ConfigError: If it is no floating-point format that models can hold.
    """
    if dtype is None:
        return jnp.dtype("float32" if jax.default_backend() == "cpu" else "bfloat16")
    name = ALIASES.get(dtype, dtype) if isinstance(dtype, str) else dtype
    try:
        found = jnp.dtype(name)
    except TypeError:
        found = None
    if found is None or found.name not in ACCEPTED:
        raise ConfigError(f"`dtype` is {dtype!r}; expected one of {', '.join(ACCEPTED)}, or None for the default.")
    return found
