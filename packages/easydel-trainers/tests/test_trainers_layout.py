"""A step's rows as arrays: nothing lost, nothing mixed, few shapes."""

from __future__ import annotations

import numpy as np
import pytest
from easydel_trainers.data.layout import IGNORE_INDEX, StepLayout, bucket_length
from hypothesis import given, settings
from hypothesis import strategies as st


def row(*tokens: int) -> dict[str, np.ndarray]:
    ids = np.array(tokens, np.int32)
    return {"input_ids": ids, "labels": ids.copy()}


def layout(*, micro_batches=1, rows=2, padding_free=False, buckets=(8,)) -> StepLayout:
    return StepLayout(micro_batches=micro_batches, rows=rows, padding_free=padding_free, buckets=buckets)


def test_padded_bin_is_one_row_and_first_label_is_ignored():
    arrays = layout().arrange([row(5, 6, 7), row(8, 9)])
    assert arrays["input_ids"].tolist() == [[[5, 6, 7, 0, 0, 0, 0, 0], [8, 9, 0, 0, 0, 0, 0, 0]]]
    assert arrays["labels"][0, 0].tolist() == [IGNORE_INDEX, 6, 7] + [IGNORE_INDEX] * 5
    assert arrays["segment_ids"][0].tolist() == [[1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0, 0]]


def test_padding_free_bin_holds_rows_end_to_end_longest_first():
    arrays = layout(padding_free=True).arrange([row(8, 9), row(5, 6, 7)])
    assert arrays["input_ids"].tolist() == [[[5, 6, 7, 8, 9, 0, 0, 0]]]
    assert arrays["labels"].tolist() == [[[IGNORE_INDEX, 6, 7, IGNORE_INDEX, 9] + [IGNORE_INDEX] * 3]]
    assert arrays["segment_ids"].tolist() == [[[1, 1, 1, 2, 2, 0, 0, 0]]]


def test_missing_rows_of_the_last_step_leave_empty_bins_of_the_same_shape():
    full = layout(micro_batches=2, rows=2).arrange([row(1, 2)] * 4)
    short = layout(micro_batches=2, rows=2).arrange([row(1, 2)])
    assert short["input_ids"].shape == full["input_ids"].shape == (2, 2, 8)
    assert (short["segment_ids"] > 0).sum() == 2


@pytest.mark.parametrize(
    ("longest", "expected"),
    [(1, 64), (64, 64), (65, 80), (80, 80), (113, 128), (129, 160), (1000, 1024), (1025, 1280)],
)
def test_built_in_buckets_have_four_steps_an_octave(longest, expected):
    assert bucket_length(longest) == expected


@pytest.mark.parametrize(("longest", "expected"), [(1, 128), (128, 128), (129, 256), (257, 512), (600, 768)])
def test_own_buckets_go_on_in_multiples_of_its_last_step(longest, expected):
    assert bucket_length(longest, buckets=(128, 256)) == expected


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    micro_batches=st.sampled_from([1, 2, 3]),
    padding_free=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_every_token_and_label_is_kept_once(lengths, micro_batches, padding_free):
    rng = np.random.default_rng(0)
    rows = []
    for length in lengths:
        ids = rng.integers(1, 1000, length).astype(np.int32)
        rows.append({"input_ids": ids, "labels": np.where(rng.random(length) < 0.5, ids, IGNORE_INDEX)})
    arrays = layout(micro_batches=micro_batches, rows=12, padding_free=padding_free, buckets=None).arrange(rows)
    real = arrays["segment_ids"] > 0
    assert sorted(arrays["input_ids"][real]) == sorted(np.concatenate([r["input_ids"] for r in rows]))
    trained = np.concatenate([r["labels"][1:] for r in rows])
    assert sorted(arrays["labels"][arrays["labels"] != IGNORE_INDEX]) == sorted(trained[trained != IGNORE_INDEX])
    assert (arrays["labels"][~real] == IGNORE_INDEX).all()


def test_padding_free_lines_are_balanced():
    arrays = layout(micro_batches=2, padding_free=True, buckets=None).arrange(
        [row(*range(1, n + 1)) for n in (60, 50, 40, 30)]
    )
    assert sorted((arrays["segment_ids"] > 0).sum(axis=-1).ravel().tolist()) == [90, 90]


def test_padded_rows_for_people_have_an_attention_mask():
    batch = StepLayout(micro_batches=2, rows=1, padding_free=True, buckets=(4,), pad_token_id=9).padded(
        [row(5, 6), row(7)]
    )
    assert batch["input_ids"].tolist() == [[5, 6, 9, 9], [7, 9, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 0, 0, 0]]
    assert batch["labels"].tolist() == [[IGNORE_INDEX, 6, IGNORE_INDEX, IGNORE_INDEX], [IGNORE_INDEX] * 4]


def test_padding_on_the_left_leaves_the_first_positions_empty():
    arrays = StepLayout(micro_batches=1, rows=2, padding_free=False, pad_left=True).arrange(
        [row(5, 6, 7), row(1, 2, 3, 4, 5)]
    )
    segments = arrays["segment_ids"][0]
    assert segments[0].tolist() == [0] * 61 + [1] * 3
    assert segments[1].tolist() == [0] * 59 + [1] * 5
    assert arrays["labels"][0, 0, 61] == IGNORE_INDEX
    assert arrays["input_ids"][0, 0, 61:].tolist() == [5, 6, 7]


def test_lengths_are_raised_to_a_multiple():
    assert bucket_length(70, multiple_of=48) == 96
    assert bucket_length(70, buckets=(100,), multiple_of=64) == 128
    layout = StepLayout(micro_batches=1, rows=2, padding_free=False, multiple_of=128)
    assert layout.arrange([row(5, 6, 7), row(1, 2, 3, 4, 5)])["input_ids"].shape == (1, 2, 128)
    packs = StepLayout(micro_batches=1, rows=2, padding_free=True, pack_length=50, multiple_of=64)
    assert packs.arrange([row(*range(50)), row(*range(50))])["input_ids"].shape == (1, 1, 128)
