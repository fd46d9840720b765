"""How tests here compile: once and lightly, also in the processes they start. Compiling is most of their time.

JAX reads these settings from the environment when it is imported. `nox -s golden` sets EASYDEL_FULL_COMPILATION and
replays the recorded runs on the programs that users get.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping

_LIGHTLY = "JAX_DISABLE_MOST_OPTIMIZATIONS"
_QUICKLY = "XLA_FLAGS"  # nox sets them


def choose_compilation() -> tempfile.TemporaryDirectory[str] | None:
    """Set the environment of this process and of all it starts.

    Returns:
        The folder of compiled programs; `None` where a process above this one has made it.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return None
    folder = tempfile.TemporaryDirectory(prefix="compiled-", ignore_cleanup_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    if not os.environ.get("EASYDEL_FULL_COMPILATION"):
        os.environ[_LIGHTLY] = "1"
    return folder


def fully_compiled(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for a process whose speed or memory is looked at, or that runs a real model."""
    return {name: value for name, value in environment.items() if name not in (_LIGHTLY, _QUICKLY)}
