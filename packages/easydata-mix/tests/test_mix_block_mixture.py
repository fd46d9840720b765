"""block_mixture_interleave: one call for data sets of every kind."""

from collections import Counter
from itertools import islice

import pytest
from easydata_mix import MixedShardedSource, MixtureError, block_mixture_interleave
from easydata_sources import MemoryShardedSource

ALPACA = [{"instruction": f"i{index}", "output": f"o{index}"} for index in range(30)]
DOLLY = [{"instruction": f"d{index}", "response": f"r{index}"} for index in range(10)]


def test_the_guides_call():
    mixed = block_mixture_interleave(
        datasets={"alpaca": ALPACA, "dolly": DOLLY},
        weights={"alpaca": 0.6, "dolly": 0.4},
        block_size=1000,
        seed=42,
        stop="restart",
    )
    assert isinstance(mixed, MixedShardedSource)
    kinds = Counter("dolly" if "response" in row else "alpaca" for row in islice(mixed, 1000))
    assert kinds == {"alpaca": 600, "dolly": 400}


def test_a_list_and_equal_weights():
    mixed = block_mixture_interleave([ALPACA, DOLLY], weights=None, provenance=True)
    assert Counter(row["__source__"] for row in islice(mixed, 1000)) == {"source_0": 500, "source_1": 500}


def test_huggingface_data_sets_sources_and_lists_in_one_mixture(tmp_path):
    # Data-layer notes §2.8: a data set and a source could not be mixed.
    from datasets import Dataset

    path = tmp_path / "dolly.jsonl"
    path.write_text('{"instruction": "d", "response": "r"}\n')
    mixed = block_mixture_interleave(
        {
            "map": Dataset.from_list(ALPACA),
            "stream": Dataset.from_list(ALPACA).to_iterable_dataset(),
            "source": MemoryShardedSource(DOLLY),
            "list": DOLLY,
            "path": str(path),
        },
        block_size=10,
        provenance=True,
    )
    assert Counter(row["__source__"] for row in islice(mixed, 100)) == dict.fromkeys(mixed.names, 20)


def test_all_exhausted_gives_every_row():
    # Data-layer notes §2.4: 7 of 33 rows came, silently.
    mixed = block_mixture_interleave({"a": ALPACA, "b": DOLLY[:3]}, stop="all_exhausted", block_size=10)
    assert len(list(mixed)) == len(mixed) == 33


def test_iterating_twice_gives_the_same():
    mixed = block_mixture_interleave([ALPACA, DOLLY], stop="first_exhausted", block_size=7)
    assert list(mixed) == list(mixed)


@pytest.mark.parametrize(
    ("weights", "message"),
    [({"alpaca": 1.5, "dolly": -0.5}, "cannot be negative"), ({"alpaca": 1}, "'dolly' have no weight")],
)
def test_bad_weights_are_refused(weights, message):
    with pytest.raises(MixtureError, match=message):
        block_mixture_interleave({"alpaca": ALPACA, "dolly": DOLLY}, weights)


def test_no_data_sets_are_refused():
    with pytest.raises(MixtureError, match="nothing to mix"):
        block_mixture_interleave({})
