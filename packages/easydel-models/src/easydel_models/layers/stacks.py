"""How a decoder's layers are stacked: equal ones behind one another, or at the same position of a repeating period.

A run through the decoder compiles each stack's layer once, however many layers there are: a `Segment` is a period of
layers that repeats, and `jax.lax.scan` goes over its repetitions. Layers that repeat nothing are a segment of one.
"""

import functools
from typing import NamedTuple

from easydel_models.layers.layer import LayerConfig


class Stack(NamedTuple):
    """Equal layers whose parameters are stacked along a leading axis."""

    config: LayerConfig
    numbers: tuple[int, ...]
    """Which layers of the decoder, from 0."""


class Segment(NamedTuple):
    """A period of layers, `repeats` times behind one another: one stack for each of its layers."""

    stacks: tuple[Stack, ...]
    repeats: int


@functools.lru_cache(maxsize=256)
def segments(layers: tuple[LayerConfig, ...]) -> tuple[Segment, ...]:
    """Returns the division of a decoder into segments with the fewest stacks, and among those the fewest segments.

    Where that leaves a choice, what is no whole period comes first.

    >>> [(len(s.stacks), s.repeats) for s in segments(tuple("ssssf" * 5 + "ss"))]  # layers stand for configurations
    [(1, 2), (5, 5)]
    """
    kinds = {kind: number for number, kind in enumerate(dict.fromkeys(layers))}
    numbers = [kinds[layer] for layer in layers]
    # best[end]: the cheapest division of the first `end` layers, as (stacks, segments, where the last segment begins,
    # its period).
    best: list[tuple[int, int, int, int]] = [(0, 0, 0, 0)]
    for end in range(1, len(layers) + 1):
        best.append(min(_ending_at(numbers, best, end)))
    found: list[Segment] = []
    end = len(layers)
    while end:
        *_, start, period = best[end]
        found.append(_segment(layers, start, end, period))
        end = start
    return tuple(reversed(found))


def stacks(layers: tuple[LayerConfig, ...]) -> tuple[Stack, ...]:
    """Returns the stacks of all segments, in order."""
    return tuple(stack for segment in segments(layers) for stack in segment.stacks)


def _ending_at(numbers: list[int], best: list[tuple[int, int, int, int]], end: int) -> list[tuple[int, int, int, int]]:
    found = []
    for period in range(1, end + 1):
        start = end - period
        while start >= 0:
            stacks, segments, *_ = best[start]
            found.append((stacks + period, segments + 1, start, period))
            before = start - period
            if before < 0 or numbers[before:start] != numbers[start : start + period]:
                break
            start = before
    return found


def _segment(layers: tuple[LayerConfig, ...], start: int, end: int, period: int) -> Segment:
    own = tuple(Stack(layers[start + i], tuple(range(start + i, end, period))) for i in range(period))
    return Segment(own, (end - start) // period)
