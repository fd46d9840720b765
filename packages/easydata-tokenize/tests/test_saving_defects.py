"""Ways in which writers of sets lose rows or columns, as other systems were seen to do."""

import numpy as np
import pytest
from easydata_sources import DataError
from easydata_tokenize import TokenizeTransform, load_tokenizer, open_saved, save_dataset


@pytest.mark.parametrize("format", ["parquet", "arrow", "jsonl"])
def test_columns_that_only_later_rows_have_are_written_or_refused_by_name(tmp_path, format):
    rows = [{"a": n} for n in range(500)] + [{"a": n, "late": f"text {n}"} for n in range(500, 3000)]
    refusal = ""
    try:
        save_dataset(rows, tmp_path, format)
    except DataError as error:
        refusal = str(error)
    if refusal:
        assert "late" in refusal
        return
    back = list(open_saved(tmp_path).rows())
    assert [row["a"] for row in back] == list(range(3000))
    assert [row.get("late") for row in back] == [row.get("late") for row in rows]


@pytest.mark.parametrize("format", ["parquet", "arrow", "jsonl"])
def test_rows_of_arrays_are_written_as_lists(tmp_path, format):
    rows = [{"input_ids": np.arange(n, dtype=np.int32), "score": np.float32(n / 2)} for n in range(1, 9)]
    save_dataset(rows, tmp_path, format)
    back = list(open_saved(tmp_path).rows())
    assert [row["input_ids"] for row in back] == [row["input_ids"].tolist() for row in rows]
    assert [row["score"] for row in back] == [n / 2 for n in range(1, 9)]


def test_a_row_without_text_is_refused_and_not_an_empty_sample(golden):
    transform = TokenizeTransform(load_tokenizer(golden / "tokenizer"))
    for row in ({"body": "text under another name"}, {"text": None}):
        with pytest.raises(DataError):
            transform.transform_batch([row])
