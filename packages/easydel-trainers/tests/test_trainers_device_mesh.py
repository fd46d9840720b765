"""Batches on a mesh: what must divide, how lines are shared, and what travels between processes."""

from __future__ import annotations

import numpy as np
import pytest
from easydel_models.mesh import MESH_AXES
from easydel_trainers import ConfigError, SFTConfig, join_processes
from easydel_trainers.data.layout import StepLayout
from easydel_trainers.data.row_exchange import decoded, encoded
from easydel_trainers.data.step_rows import SequenceLayout, StepRow
from easydel_trainers.step.device_mesh import check_batches
from jax.sharding import AbstractMesh, AxisType


def mesh_of(*shape: int) -> AbstractMesh:
    return AbstractMesh(shape, MESH_AXES, axis_types=(AxisType.Auto,) * 5)


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ({"total_batch_size": 6}, (2, 1, 2, 1, 1), "multiple of 4: dp x fsdp x ep = 4"),
        ({"total_batch_size": 8, "gradient_accumulation_steps": 4}, (1, 4, 1, 1, 1), "multiple of 16"),
        ({}, (1, 1, 1, 1, 3), "a divisor of every length of a batch, and so of 16; length_buckets"),
        ({"length_buckets": [32, 100]}, (1, 1, 1, 1, 8), "and so of 100"),
    ],
)
def test_batches_that_cannot_be_shared_are_refused(fields, shape, message):
    with pytest.raises(ConfigError, match=message):
        check_batches(SFTConfig(**fields), mesh_of(*shape))


def test_batches_that_can_be_shared_are_not():
    config = SFTConfig(total_batch_size=12, gradient_accumulation_steps=3, length_buckets=[48])
    check_batches(config, mesh_of(2, 2, 1, 5, 3))
    check_batches(config, None)


@pytest.mark.parametrize("field", ["dp", "fsdp", "ep", "tp", "sp"])
def test_an_axis_is_a_whole_number_or_the_rest(field):
    for wrong in (0, -2, 1.5):
        with pytest.raises(ConfigError, match=f"`{field}`"):
            SFTConfig(**{field: wrong})


@pytest.mark.parametrize("padding_free", [True, False])
@pytest.mark.parametrize("rows", [1, 7, 8])
def test_every_part_of_the_devices_gets_bins_and_no_row_is_lost(padding_free, rows):
    given = [{"input_ids": [row + 1] * (row + 2), "labels": [row + 1] * (row + 2)} for row in range(rows)]
    layout = StepLayout(micro_batches=2, rows=4, padding_free=padding_free, parts=3)
    arrays = layout.arrange(given)
    micro_batches, bins, _ = arrays["input_ids"].shape
    assert micro_batches == 2
    assert bins == (3 if padding_free else 6)
    tokens = np.bincount(arrays["input_ids"][arrays["segment_ids"] > 0], minlength=rows + 1)[1:]
    assert tokens.tolist() == [row + 2 for row in range(rows)]


def test_a_micro_batch_keeps_its_rows_when_bins_are_added_for_the_devices():
    given = [{"input_ids": [row + 1] * 2, "labels": [row + 1] * 2} for row in range(6)]
    arrays = StepLayout(micro_batches=2, rows=3, padding_free=False, parts=2).arrange(given)
    first = [np.unique(part[part > 0]).tolist() for part in arrays["input_ids"]]
    assert first == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize("padding_free", [True, False])
def test_pairs_keep_their_numbers_wherever_they_lie(padding_free):
    pairs = [
        StepRow(sequences=({"input_ids": [1] * (n + 1)}, {"input_ids": [2] * 3}), values={"margin": float(n)})
        for n in range(4)
    ]
    layout = SequenceLayout(micro_batches=1, rows=4, sequences=2, padding_free=padding_free, to_step_rows=list, parts=3)
    arrays = layout.arrange(pairs)
    assert arrays["input_ids"].shape[1] == (3 if padding_free else 9)
    ids, numbers = arrays["input_ids"].reshape(-1), arrays["segment_ids"].reshape(-1)
    order = {float(margin): place for place, margin in enumerate(arrays["rows"]["margin"][0])}
    for margin, place in order.items():
        assert (numbers == 1 + place).sum() == margin + 1
        assert set(ids[numbers == 5 + place]) == {2}


def test_rows_travel_between_processes_as_they_are():
    payload = {
        "read": 3,
        "rows": [
            {"input_ids": np.arange(5, dtype=np.int32), "label": True, "text": "grüße", "score": np.float32(0.5)},
            {"input_ids": np.zeros((0,), np.int64), "nested": [[1, 2], []], "nothing": None},
        ],
        "counts": [{"rows": 2, "counts": {"truncated": 1}, "examples": {}}],
    }
    back = decoded(encoded(payload))
    assert back["counts"] == payload["counts"]
    first, second = back["rows"]
    assert first["input_ids"].dtype == np.int32
    assert first["input_ids"].tolist() == [0, 1, 2, 3, 4]
    assert (first["label"], first["text"], first["score"]) == (True, "grüße", 0.5)
    assert second["input_ids"].shape == (0,)
    assert (second["nested"], second["nothing"]) == ([[1, 2], []], None)


def test_half_a_place_among_processes_is_refused(monkeypatch):
    monkeypatch.setenv("EASYDEL_PROCESSES", "2")
    with pytest.raises(ConfigError, match="EASYDEL_COORDINATOR"):
        join_processes()
    monkeypatch.setenv("EASYDEL_PROCESSES", "two")
    with pytest.raises(ConfigError, match="whole number or `auto`"):
        join_processes()


def test_a_run_of_one_process_joins_nobody(monkeypatch):
    monkeypatch.delenv("EASYDEL_PROCESSES", raising=False)
    join_processes()
