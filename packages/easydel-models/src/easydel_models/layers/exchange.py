"""What a layer asks of the devices that compute it together; `easydel_models.mesh.parallel` answers.

Axis letters: H heads, K head_dim, N tokens of all rows.
"""

from typing import Protocol, runtime_checkable

from jaxtyping import Array

from easydel_models.layers.linear import Exchange


@runtime_checkable
class LayerExchange(Exchange, Protocol):
    """Beside what linear layers exchange, what heads and experts do; on one device, all come back as they were."""

    def once(self, addend: Array) -> Array:
        """Returns the addend on one of the devices whose results are summed, and zeros on the others."""
        ...

    def mean_of_heads(self, part: Array) -> Array:
        """Returns the mean, over all heads, of what each device has as the mean of its own."""
        ...

    def own_heads(self, weights: Array) -> Array:
        """Of one weight for each number of all heads, [H K], those of this device's heads."""
        ...

    def to_experts(self, tokens: Array) -> Array:
        """Returns what is said of each token, [N, ...], of all tokens of the devices that hold the experts together."""
        ...

    def from_experts(self, part: Array) -> Array:
        """Of what this device's experts add to each of those tokens, the sum with all others', for its own tokens."""
        ...

    def first_expert(self, held: int) -> Array:
        """Returns number, among all, of the first of the ``held`` experts that this device has."""
        ...
