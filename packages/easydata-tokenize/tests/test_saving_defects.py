"""Ways in which writers of sets lose rows or columns, as other systems were seen to do."""

import json
from datetime import date, datetime
from decimal import Decimal

import numpy as np
import pytest
from easydata_sources import DataError, JsonShardedSource
from easydata_tokenize import (
    TokenizeTransform,
    load_tokenizer,
    open_saved,
    save_dataset,
    save_iterator,
    tokenize_and_save,
)


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


@pytest.mark.parametrize("format", ["arrow", "jsonl"])
def test_dicts_without_keys_are_kept_where_the_format_has_them(tmp_path, format):
    rows = [{"a": n, "meta": {}, "deep": [{"x": {}}]} for n in range(3)]
    save_dataset(rows, tmp_path, format)
    assert list(open_saved(tmp_path).rows()) == rows


@pytest.mark.parametrize("value", [{}, [{}], {"x": {}}, [[{}]]])
def test_dicts_without_keys_are_refused_by_parquet_at_once_naming_the_column(tmp_path, value):
    read = []

    def rows():
        for n in range(5000):
            read.append(n)
            yield {"a": n, "meta": value}

    with pytest.raises(DataError, match=r"column: meta\n(.|\n)*format='arrow' or 'jsonl'"):
        save_iterator(rows(), tmp_path, row_group_size=256)
    assert len(read) <= 512  # at the first group of rows, not behind the last


@pytest.mark.parametrize("format", ["parquet", "arrow", "jsonl"])
def test_whole_numbers_then_fractions_are_kept_or_refused_when_they_come(tmp_path, format):
    save_dataset([{"x": n} for n in range(300)] + [{"x": n / 2} for n in range(300)], tmp_path / "fit", format)
    assert [row["x"] for row in open_saved(tmp_path / "fit").rows()] == [*range(300), *(n / 2 for n in range(300))]
    read = []

    def rows(first, then):
        for n in range(3000):
            read.append(n)
            yield {"x": first if n < 600 else then}

    for first, then in ((2**60 + 1, 0.5), (0.5, 2**60 + 1), (1, "one"), ("one", 1), ([1], {"a": 1})):
        read.clear()
        folder = tmp_path / f"{first} {type(then).__name__}"
        if format == "jsonl":
            save_iterator(rows(first, then), folder, format, row_group_size=256)
            assert [row["x"] for row in open_saved(folder).rows()] == [first] * 600 + [then] * 2400
            continue
        with pytest.raises(DataError, match="column: x"):
            save_iterator(rows(first, then), folder, format, row_group_size=256)
        assert len(read) <= 1024


@pytest.mark.parametrize("value", [datetime(2024, 1, 2), b"bytes", Decimal("1.5"), {1, 2}, "half \ud800", object()])
def test_what_json_has_no_word_for_is_refused_at_its_row(tmp_path, value):
    rows = [{"a": n} for n in range(10)] + [{"a": 10, "when": [value]}]
    with pytest.raises(DataError, match=r"row: 10\n  column: when\n  found: list"):
        save_dataset(rows, tmp_path, "jsonl")


@pytest.mark.parametrize("format", ["parquet", "arrow"])
def test_dates_are_kept_in_columns(tmp_path, format):
    rows = [{"when": datetime(2024, 1, 2, 3, 4, 5), "day": date(2024, 1, 2)}]
    save_dataset(rows, tmp_path, format)
    assert list(open_saved(tmp_path).rows()) == rows


def test_lines_of_json_hold_rows_exactly(tmp_path):
    """No key is padded in and none is left out: a null is data, and tool schemas of unlike tools stay apart."""
    rows = [
        {"tools": [{"a": {"default": None}}], "x": 1},
        {"tools": [{"b": {"enum": [1, "one", None]}}], "x": "text", "late": None},
        {},
        {"tools": []},
    ]
    save_dataset(rows, tmp_path / "lines", "jsonl")
    lines = (tmp_path / "lines" / "shard-00000.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows


@pytest.mark.parametrize("number", [0, -1])
def test_a_length_of_nothing_is_refused(tmp_path, golden, number):
    tokenizer = load_tokenizer(golden / "tokenizer")
    with pytest.raises(DataError, match="`max_length` must be at least 1"):
        tokenize_and_save([{"text": "a"}], tokenizer, tmp_path / "set", max_length=number)
    assert not (tmp_path / "set").exists()


def test_many_small_files_become_few_shards_that_are_gone_on_with(tmp_path):
    (tmp_path / "raw").mkdir()
    for number in range(300):
        (tmp_path / "raw" / f"{number:03d}.jsonl").write_text(f'{{"n": {number}}}\n')
    rows = [{"n": number} for number in range(300)]
    source = JsonShardedSource(str(tmp_path / "raw"))
    assert save_dataset(source, tmp_path / "set").num_shards == 1
    assert list(open_saved(tmp_path / "set").rows()) == rows
    assert save_dataset(source, tmp_path / "small", max_shard_size=1000, num_proc=1).num_shards > 3
    assert list(open_saved(tmp_path / "small").rows()) == rows

    def until(limit):
        def passes(row):
            if row["n"] >= limit:
                raise KeyError(limit)
            return row

        return passes

    for limit in (100, 101, 250):
        with pytest.raises(KeyError):
            save_dataset(source.map(until(limit)), tmp_path / "died", row_group_size=7, assume_same=True)
    save_dataset(source.map(until(300)), tmp_path / "died", row_group_size=7, assume_same=True)
    save_dataset(source.map(until(300)), tmp_path / "whole", row_group_size=7)
    for name in ("shard-00000.parquet",):
        assert (tmp_path / "died" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
