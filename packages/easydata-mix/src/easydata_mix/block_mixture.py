"""block_mixture_interleave: mix data sets in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from easydata_mix.mixed_source import MixedShardedSource
from easydata_mix.plan.types import Stop


def block_mixture_interleave(
    datasets: Mapping[str, Any] | Sequence[Any],
    weights: Mapping[str, float] | Sequence[float] | None = None,
    block_size: int = 1000,
    seed: int = 42,
    stop: Stop = "restart",
    *,
    provenance: bool = False,
) -> MixedShardedSource:
    """Mixes data sets by weights, in blocks whose shares are exact; iterate over the result like over a data set.

    Rows keep exactly the columns their data set has, so data sets of different layouts can be mixed.

    Args:
        datasets: Data sets by name (or a list: `source_0`, …), in any mixture of kinds: Hugging Face `Dataset` or
            `IterableDataset`, a source, a list of dicts, a path or glob.
        weights: Share of each data set, by name or in order. `None` = equal shares.
        block_size: Rows after which shares are exact; 1 = the even order.
        seed: Seed of the order inside blocks.
        stop: `restart` (never ends), `first_exhausted` or `all_exhausted`.
        provenance: Add the name of its data set to every row, as `__source__`.

    Raises:
        MixtureError: If the options do not describe a mixture.
        TypeError: If something is not a data set.

    Examples:
        >>> mixed = block_mixture_interleave(
        ...     [[{"text": "a"}, {"text": "b"}], [{"prompt": "p", "completion": "c"}]],
        ...     block_size=1,
        ...     stop="all_exhausted",
        ... )
        >>> [sorted(row) for row in mixed]
        [['text'], ['completion', 'prompt'], ['text']]
    """
    return MixedShardedSource(datasets, weights, block_size=block_size, seed=seed, stop=stop, provenance=provenance)
