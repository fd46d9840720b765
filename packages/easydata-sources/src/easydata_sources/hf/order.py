"""The order of a streaming Hugging Face data set, where it is drawn by random generators.

Its stages hold them: shuffle buffers, and what interleaves data sets by probabilities. One made without a seed has
drawn its own, so the stream built anew, on another host or after a restart, is another stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datasets
    import numpy as np

# What NumPy draws for a generator without a seed has 128 bits; a user's seed has hardly ever more than 64.
_LARGEST_SEED = 1 << 64


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamOrder:
    """What is known of the order of a streaming data set."""

    digest: str | None
    """Of the generators; equal for streams of one order. None = nothing is drawn."""
    seeded: bool
    """Whether the data set built anew has the same order."""
    buffered: bool
    """Whether there is a shuffle buffer, whose content the library's state does not hold."""
    endless: bool
    """Whether the rows are repeated without end."""


def stream_order(dataset: datasets.IterableDataset) -> StreamOrder:
    """Returns what is known of the order of a data set."""
    stages = list(_stages(dataset))
    generators = [stage.generator for stage in stages if hasattr(stage, "generator")]
    states = repr([generator.bit_generator.state for generator in generators])
    return StreamOrder(
        digest=blake2b(states.encode(), digest_size=8).hexdigest() if generators else None,
        seeded=all(map(_is_seeded, generators)),
        buffered=any(type(stage).__name__.startswith("BufferShuffled") for stage in stages),
        endless=_is_endless(dataset._ex_iterable),
    )


def _stages(dataset: datasets.IterableDataset) -> Iterator[Any]:
    """Yields the stages of a stream; they hold the stages before them, and the library has no public way to ask."""
    waiting, seen = [dataset._ex_iterable], set()
    while waiting:
        stage = waiting.pop(0)
        if id(stage) in seen or not type(stage).__name__.endswith(("ExamplesIterable", "Iterable")):
            continue
        seen.add(id(stage))
        yield stage
        for value in vars(stage).values():
            waiting += value if isinstance(value, list) else [value]


def _is_endless(stage: Any) -> bool:
    """Returns whether a stage repeats those before it without end, and none behind it takes a number of rows."""
    while stage is not None and not type(stage).__name__.startswith("Take"):
        if type(stage).__name__.startswith("Repeat") and stage.num_times is None:
            return True
        stage = getattr(stage, "ex_iterable", None)
    return False


def _is_seeded(generator: np.random.Generator) -> bool:
    entropy = getattr(getattr(generator.bit_generator, "seed_seq", None), "entropy", None)
    return not isinstance(entropy, int) or entropy < _LARGEST_SEED
