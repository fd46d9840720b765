"""The epoch numbers of a mixture's sources: the mixture's own epoch and the turn of the source in it, in one number."""

from __future__ import annotations

_TURN_BITS = 32


def epoch_of_turn(epoch: int, turn: int) -> int:
    """Return the number under which a source is shuffled in a turn of an epoch; no two have the same."""
    return (epoch << _TURN_BITS) + turn


def passes_before(epoch: int) -> int:
    """Return the passes that an epoch's number stands for: of an inner mixture, outer epochs and turns together."""
    passes = 0
    while epoch:
        passes += epoch & ((1 << _TURN_BITS) - 1)
        epoch >>= _TURN_BITS
    return passes
