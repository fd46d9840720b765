"""What the layers of one pass know of the tokens they work on, beside the activations.

Axis letters: B batch, T tokens, G heads or channels of a kind's own, S slots, K their width.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from easydel_models.attention import Implementation
from easydel_models.bfloat16_bits import written
from easydel_models.layers.exchange import LayerExchange
from easydel_models.layers.norms import NormConfig
from easydel_models.layers.rope import RopeConfig, RopeTables


class Memory(NamedTuple):
    """What one layer keeps of the tokens it has read, for those to come."""

    by_token: tuple[Float[Array, "B G S K"], ...] = ()
    """Arrays with one entry for each token, in slots: keys and values, or latents."""
    by_row: tuple[Array, ...] = ()
    """Arrays ``[B, ...]`` of constant size, however many tokens were read: recurrent and convolution states."""

    def entered(self, new: Iterable[Float[Array, "B G T K"]], slot: Int[Array, ""]) -> "Memory":
        """Returns it with ``new`` in `by_token`, from ``slot`` on, the same in every row."""
        zero = jnp.int32(0)
        pairs = zip(self.by_token, new, strict=True)
        return self._replace(by_token=tuple(written(held, one, (zero, zero, slot, zero)) for held, one in pairs))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tokens:
    """Where the tokens of a pass stand, and what all layers of a decoder share."""

    positions: Int[Array, "B T"]
    """Position of every token in its document."""
    segment_ids: Int[Array, "B T"] | None
    """Document of every token; 0 = padding. None = one document per row."""
    prefix_ids: Int[Array, "B T"] | None = None
    """Document before a token's own that it sees too; 0 = none."""
    longest_segment: int | None = None
    """Most tokens of any document, if known."""
    mask_inputs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Arguments for `easydel_models.attention.attention` that say who sees whom."""
    ropes: Mapping[tuple[RopeConfig, int], RopeTables] = dataclasses.field(default_factory=dict)
    """Cosine and sine of every rope of the decoder, by its configuration and the width of its heads."""
    norm: NormConfig
    """The decoder's norm."""
    exchange: LayerExchange
    """What devices exchange; on one device each of its methods gives back what it was given."""
    implementation: Implementation = "auto"
    """Of attention."""
    shared: Mapping[str, Memory] = dataclasses.field(default_factory=dict)
    """What earlier layers published for later ones, by name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One token of every row during decoding: `tokens` of length 1, and which slots hold what came before."""

    tokens: Tokens
    lengths: Int[Array, " B"]
    """Tokens of each row in the settled memory: its slots from there on hold nothing."""
    number: Int[Array, ""]
    """Tokens of this block in the recent memory, this one not counted: the slot it is written to."""
    shared: Mapping[str, tuple[Memory, Memory]] = dataclasses.field(default_factory=dict)
    """What earlier layers published, settled and recent, this token included."""

    def seen(self, settled: int, recent: int, window: int | None = None) -> Bool[Array, "B both"]:
        """Returns which slots of both memories, side by side, a row's newest token sees.

        Args:
            settled: Slots of the settled memory.
            recent: Slots of the recent memory.
            window: Tokens that it sees, itself included; None = all. A settled memory of at most so many slots is a
                ring: see `newest_in_slots`.
        """
        slots, new = jnp.arange(settled, dtype=jnp.int32)[None], jnp.arange(recent, dtype=jnp.int32)[None]
        old = slots if window is None or settled > window else newest_in_slots(self.lengths, window)[:, :settled]
        old_seen = (old >= 0) & (old < self.lengths[:, None])
        new_seen = jnp.broadcast_to(new <= self.number, (self.lengths.shape[0], recent))
        if window is not None:
            first = self.number - jnp.int32(window - 1)
            old_seen, new_seen = old_seen & (old >= self.lengths[:, None] + first), new_seen & (new >= first)
        return jnp.concatenate((old_seen, new_seen), axis=1)


def newest_in_slots(lengths: Int[Array, " B"], slots: int) -> Int[Array, "B slots"]:
    """Returns the position of the newest token in every slot of a ring, where p lies in slot p modulo ``slots``.

    Args:
        lengths: Tokens that each row has read.
        slots: Of the ring. A slot without a token gets a number below 0.
    """
    last = lengths[:, None] - 1
    return last - (last - jnp.arange(slots, dtype=jnp.int32)[None]) % slots
