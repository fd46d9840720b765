"""A linear head as losses take it: its matrix together with what is done to the logits after it.

Axes: V vocabulary, D model width.
"""

import dataclasses

import jax
from jaxtyping import Array, Float


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, slots=True)
class LinearHead:
    """Logits are ``softcap tanh(hidden @ weights.T / softcap)``, or the product alone."""

    weights: Float[Array, "V D"]
    """One row per word."""
    softcap: float | None = dataclasses.field(default=None, metadata={"static": True})
    """Bound on the magnitude of the logits; None = no bound."""


def parts_of(head: Float[Array, "V D"] | LinearHead, softcap: float | None) -> tuple[Float[Array, "V D"], float | None]:
    """Returns the matrix and the bound of a head that is given as either.

    Raises:
        ValueError: If a head that has a bound is given another.
    """
    if not isinstance(head, LinearHead):
        return head, softcap
    if softcap is not None and softcap != head.softcap:
        raise ValueError(f"`softcap` is {softcap}, but the head's own is {head.softcap}; leave it out.")
    return head.weights, head.softcap
