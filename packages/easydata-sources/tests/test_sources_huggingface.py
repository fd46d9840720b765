from __future__ import annotations

import logging
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
from easydata_sources import DataError, HFDatasetShardedSource, MissingExtraError
from easydata_sources.rows import rows_as_dicts, without_padding

ROWS = [{"id": i, "text": f"row {i}", "messages": [{"role": "user", "content": str(i)}]} for i in range(20)]


def dataset() -> datasets.Dataset:
    return datasets.Dataset.from_list(ROWS)


def test_a_format_for_another_library_is_ignored() -> None:
    assert list(HFDatasetShardedSource(dataset().with_format("numpy"))) == ROWS


def test_the_columns_of_a_format_are_kept() -> None:
    source = HFDatasetShardedSource(dataset().with_format("numpy", columns=["id"]))
    assert list(source) == [{"id": row["id"]} for row in ROWS]


def test_single_rows_are_taken_from_the_chunks_that_hold_them() -> None:
    parts = [datasets.Dataset.from_list(ROWS[start:stop]) for start, stop in ((0, 7), (7, 8), (8, 20))]
    joined = HFDatasetShardedSource(datasets.concatenate_datasets(parts))
    access = joined.access()
    assert access is not None
    for order in ([19, 0, 7, 8, 6, 7], [3, 1, 2], range(20), [12]):
        assert rows_as_dicts(access.take(order)) == [ROWS[index] for index in order]
    one_column = HFDatasetShardedSource(dataset().with_format("arrow", columns=["text"])).access()
    assert one_column is not None
    assert rows_as_dicts(one_column.take([5, 4])) == [{"text": "row 5"}, {"text": "row 4"}]


def test_a_transform_of_the_data_set_is_applied() -> None:
    source = HFDatasetShardedSource(dataset().with_transform(lambda batch: {"double": [2 * i for i in batch["id"]]}))
    assert list(source)[:3] == [{"double": 0}, {"double": 2}, {"double": 4}]
    assert sorted(row["double"] for row in source.shuffle(1)) == list(range(0, 40, 2))


def test_json_features_are_decoded() -> None:
    rows = [{"args": {"x": 1}}, {"args": {"y": "s"}}]
    mixed = datasets.Dataset.from_list(rows, on_mixed_types="use_json")
    assert isinstance(mixed.features["args"], datasets.Json)
    assert list(HFDatasetShardedSource(mixed)) == rows


def test_selected_sorted_and_shuffled_data_sets_keep_their_order() -> None:
    shuffled = dataset().shuffle(seed=1).select(range(3, 17))
    source = HFDatasetShardedSource(shuffled)
    assert list(source) == list(shuffled)
    assert list(source.open_shard_at_row("hf_dataset:0", 9)) == list(shuffled)[9:]


def test_map_style_batches_are_slices_of_the_table() -> None:
    batch = next(HFDatasetShardedSource(dataset()).batches(8))
    assert batch.column("id").to_pylist() == list(range(8))
    assert np.asarray(batch.column("id")).dtype == np.int64


def test_rows_are_never_fetched_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    source = HFDatasetShardedSource(dataset())
    asked: list[object] = []
    getitem = datasets.Dataset.__getitem__
    monkeypatch.setattr(datasets.Dataset, "__getitem__", lambda self, key: asked.append(key) or getitem(self, key))
    assert list(source.rows()) == ROWS
    assert asked == [slice(0, 20)]


def test_the_position_of_a_stream_is_not_left_in_the_users_data_set() -> None:
    stream = dataset().to_iterable_dataset()
    rows = HFDatasetShardedSource(stream).rows()
    next(rows)
    assert list(stream) == ROWS


def test_a_stream_with_mapped_and_filtered_rows_resumes() -> None:
    stream = dataset().to_iterable_dataset(num_shards=2).map(lambda row: {"double": 2 * row["id"]})
    source = HFDatasetShardedSource(stream.filter(lambda row: row["id"] % 3).with_format("numpy"))
    expected = [2 * i for i in range(20) if i % 3]
    rows = source.rows()
    assert [next(rows)["double"] for _ in range(5)] == expected[:5]
    assert [row["double"] for row in source.rows(rows.state())] == expected[5:]


def test_a_shuffle_buffer_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    buffered = dataset().to_iterable_dataset().shuffle(seed=1, buffer_size=4)
    with caplog.at_level(logging.WARNING):
        HFDatasetShardedSource(buffered.map(lambda row: row), name="train")
    assert "train:0 has a shuffle buffer" in caplog.text
    assert "source.shuffle(seed)" in caplog.text


def test_the_length_of_a_stream_is_unknown() -> None:
    with pytest.raises(TypeError, match="unknown"):
        len(HFDatasetShardedSource(dataset().to_iterable_dataset()))
    assert len(HFDatasetShardedSource(dataset())) == 20


def test_a_dictionary_of_splits_is_refused() -> None:
    with pytest.raises(DataError, match=r"dataset\['train'\]"):
        HFDatasetShardedSource(datasets.DatasetDict(train=dataset()))  # type: ignore[arg-type]


def test_data_sets_on_disk_are_read(tmp_path: Path) -> None:
    dataset().save_to_disk(str(tmp_path))
    assert list(HFDatasetShardedSource(datasets.load_from_disk(str(tmp_path)))) == ROWS  # type: ignore[arg-type]


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r'pip install "easydata-sources\[hf\]"'):
        HFDatasetShardedSource(ROWS)  # type: ignore[arg-type]


def test_structs_are_told_from_dicts_in_which_null_is_data(tmp_path):
    rows = [{"call": [{"a": 1}], "text": "x"}, {"call": [{"b": None}], "text": "y"}]
    given = datasets.Dataset.from_list(rows)
    given.to_parquet(tmp_path / "rows.parquet")
    streamed = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "rows.parquet"), split="train", streaming=True
    )
    for dataset in (given, given.add_column("images", [None, None], feature=datasets.Image()), streamed):
        read = list(HFDatasetShardedSource(dataset).rows())
        assert [{"call": without_padding(row["call"]), "text": row["text"]} for row in read] == [
            {"call": [{"a": 1}], "text": "x"},
            {"call": [{}], "text": "y"},
        ]
    assert without_padding(rows) == rows


@pytest.mark.parametrize(
    ("transform", "found"),
    [
        (lambda batch: {"id": batch["id"][::2]}, r"500 values of 'id' for 1000 rows"),
        (lambda batch: {"id": batch["id"] * 2}, r"2000 values of 'id' for 1000 rows"),
        (lambda batch: {"id": batch["id"], "n": [1]}, r"1000 values of 'id', 1 values of 'n'"),
        (lambda batch: {}, "no columns for 1000 rows"),
    ],
)
def test_a_transform_that_gives_another_number_of_rows_is_refused(transform: object, found: str) -> None:
    many = datasets.Dataset.from_dict({"id": list(range(1000))}).with_transform(transform)
    source = HFDatasetShardedSource(many, name="mine")
    for read in (list, lambda source: list(source.batches()), lambda source: list(source.shuffle(1))):
        with pytest.raises(DataError, match=rf"another number of rows(.|\n)*mine:0(.|\n)*{found}(.|\n)*filter"):
            read(source)
