"""How tests here compile: each program once for all processes; and lightly, where it runs only a few times.

Full optimisation pays from some ten steps of a model on. JAX reads `JAX_COMPILATION_CACHE_DIR` when it is imported; it
is inherited by the processes that tests start.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


def share_compiled_programs() -> tempfile.TemporaryDirectory[str] | None:
    """Set the environment of this process and of all it starts.

    Returns:
        The folder of compiled programs; `None` where a process above this one has made it.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return None
    folder = tempfile.TemporaryDirectory(prefix="compiled-", ignore_cleanup_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    return folder


@contextmanager
def light_compilation() -> Iterator[None]:
    """Compile without most optimisations: for programs that run a few times. Not where `nox -s golden` asks for all."""
    import jax

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", not os.environ.get("EASYDEL_FULL_COMPILATION"))
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


def lightly(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for a process whose programs run only a few times. Not where `nox -s golden` asks for all."""
    return dict(environment) | (
        {} if "EASYDEL_FULL_COMPILATION" in environment else {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    )


def as_users_compile(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for a process whose speed or memory is looked at: without what nox sets to be quick."""
    return {name: value for name, value in environment.items() if name != "XLA_FLAGS"}
