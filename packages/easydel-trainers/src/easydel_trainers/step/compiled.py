"""Jitted functions that know their mesh and count how often they were compiled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import Mesh


@dataclass(slots=True)
class Compiled:
    """A jitted function that counts its compilations (a jitted function is traced once for each shape)."""

    function: Callable[..., Any]
    compilations: int = 0
    mesh: Mesh | None = None

    def __call__(self, *args: Any) -> Any:
        """Runs it, with its mesh in force."""
        if self.mesh is None:
            return self.function(*args)
        with jax.set_mesh(self.mesh):
            return self.function(*args)

    def shapes(self, *args: Any) -> Any:
        """Returns the shapes of what it would return; it is traced, and not compiled."""
        if self.mesh is None:
            return jax.eval_shape(self.function, *args)
        with jax.set_mesh(self.mesh):
            return jax.eval_shape(self.function, *args)
