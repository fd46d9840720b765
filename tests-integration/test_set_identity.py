"""A set is only taken for what it is: another input of equal length and size, another option or function is told."""

import json
import os

import datasets
import pytest
from easydata_mix import MixedShardedSource
from easydata_sources import (
    CsvShardedSource,
    DataError,
    HFDatasetShardedSource,
    JsonShardedSource,
    MemoryShardedSource,
    ParquetShardedSource,
    ShardedDataSource,
)
from easydata_tokenize import SavedSetDiffersError, open_saved, save_dataset, save_iterator

ROWS = [{"n": n, "text": f"row {n}"} for n in range(30)]
OTHER = [{**row, "text": row["text"].replace("row", "ROW")} for row in ROWS]


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    os.utime(path, (0, 0))
    return str(path)


def scaled(factor):
    return lambda row: {**row, "n": row["n"] * factor}


def csv(tmp_path, **options):
    (tmp_path / "rows.csv").write_text("a;b,c\n1;2,3\n")
    return CsvShardedSource(str(tmp_path / "rows.csv"), **options)


def mixture(weight):
    sources = {"one": MemoryShardedSource(ROWS), "other": MemoryShardedSource(OTHER)}
    return MixedShardedSource(sources, {"one": weight, "other": 1 - weight}, stop_strategy="first_exhausted")


def parquet(tmp_path, **options):
    save_dataset(ROWS, tmp_path / "parquet")
    return ParquetShardedSource(str(tmp_path / "parquet" / "*.parquet"), **options)


PAIRS = {
    "lists": lambda tmp: (ROWS, OTHER),
    "lists in another order": lambda tmp: (ROWS, ROWS[::-1]),
    "sources of lists": lambda tmp: (MemoryShardedSource(ROWS), MemoryShardedSource(OTHER)),
    "lambdas": lambda tmp: (
        MemoryShardedSource(ROWS).map(lambda row: {"t": row["text"].upper()}),
        MemoryShardedSource(ROWS).map(lambda row: {"t": row["text"].lower()}),
    ),
    "values that lambdas use": lambda tmp: (
        MemoryShardedSource(ROWS).map(scaled(2)),
        MemoryShardedSource(ROWS).map(scaled(3)),
    ),
    "filters": lambda tmp: (
        MemoryShardedSource(ROWS).filter(lambda row: row["n"] > 3),
        MemoryShardedSource(ROWS).filter(lambda row: row["n"] > 4),
    ),
    "shuffles": lambda tmp: (MemoryShardedSource(ROWS).shuffle(1), MemoryShardedSource(ROWS).shuffle(2)),
    "limits": lambda tmp: (MemoryShardedSource(ROWS).limit(5), MemoryShardedSource(ROWS).limit(6)),
    "delimiters": lambda tmp: (csv(tmp), csv(tmp, delimiter=";")),
    "columns": lambda tmp: (parquet(tmp, columns=["n"]), parquet(tmp, columns=["text"])),
    "weights": lambda tmp: (mixture(0.5), mixture(0.6)),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_another_input_is_refused_and_the_same_is_done(tmp_path, pair):
    one, other = PAIRS[pair](tmp_path)
    first = save_dataset(one, tmp_path / "set")
    assert save_dataset(PAIRS[pair](tmp_path)[0], tmp_path / "set") == first
    rows = list(open_saved(tmp_path / "set").rows())
    with pytest.raises(SavedSetDiffersError, match=r" then, .* now"):
        save_dataset(other, tmp_path / "set")
    assert list(open_saved(tmp_path / "set").rows()) == rows


def test_a_file_edited_to_equal_size_and_time_is_another(tmp_path):
    path = tmp_path / "rows.jsonl"
    save_dataset(written(path, ROWS), tmp_path / "set")
    assert save_dataset(written(path, ROWS), tmp_path / "set").num_examples == 30
    written(path, OTHER)
    with pytest.raises(SavedSetDiffersError, match="source: files"):
        save_dataset(str(path), tmp_path / "set")
    with pytest.raises(SavedSetDiffersError):
        save_dataset(str(path), tmp_path / "set", assume_same=True)  # what differs for certain is no matter of belief
    assert save_dataset(str(path), tmp_path / "set", overwrite=True).num_examples == 30


def test_hugging_face_data_sets_are_known_by_their_rows(tmp_path):
    save_dataset(datasets.Dataset.from_list(ROWS), tmp_path / "set")
    assert save_dataset(datasets.Dataset.from_list(ROWS), tmp_path / "set").num_examples == 30
    for other in (OTHER, ROWS[::-1]):
        with pytest.raises(SavedSetDiffersError):
            save_dataset(datasets.Dataset.from_list(other), tmp_path / "set")
    stream = HFDatasetShardedSource(datasets.Dataset.from_list(ROWS).to_iterable_dataset())
    save_dataset(stream, tmp_path / "streamed")
    with pytest.raises(SavedSetDiffersError, match=r"cannot be known:\n.*streaming data set(.|\n)*assume_same=True"):
        save_dataset(stream, tmp_path / "streamed")
    assert save_dataset(stream, tmp_path / "streamed", assume_same=True).num_examples == 30


class Elsewhere(ShardedDataSource):
    """Rows of a place that nobody can compare."""

    shard_names = ("elsewhere",)

    def open_shard(self, name):
        return iter(ROWS)


def test_what_cannot_be_compared_is_told_and_confirmed(tmp_path, caplog):
    save_dataset(Elsewhere(), tmp_path / "set")
    assert "the content of a Elsewhere" in caplog.text
    with pytest.raises(SavedSetDiffersError, match="the content of a Elsewhere"):
        save_dataset(Elsewhere(), tmp_path / "set")
    assert save_dataset(Elsewhere(), tmp_path / "set", assume_same=True).num_examples == 30


def test_a_function_that_was_mended_may_be_declared_the_same(tmp_path):
    class Broken(Exception):
        pass

    def broken(row):
        if row["n"] == 20:
            raise Broken
        return row

    with pytest.raises(Broken):
        save_dataset(MemoryShardedSource(ROWS).map(broken), tmp_path, row_group_size=5)
    read = []

    def mended(row):
        read.append(row["n"])
        return row

    source = MemoryShardedSource(ROWS).map(mended)
    with pytest.raises(SavedSetDiffersError, match="assume_same"):
        save_dataset(source, tmp_path, row_group_size=5)
    save_dataset(source, tmp_path, row_group_size=5, assume_same=True)
    assert read == list(range(20, 30))
    assert list(open_saved(tmp_path).rows()) == ROWS


def test_secrets_that_functions_use_are_not_stored(tmp_path):
    key = "sk-very-secret"
    save_dataset(MemoryShardedSource(ROWS).map(lambda row: {**row, "k": len(key)}), tmp_path)
    assert "sk-very" not in (tmp_path / "_manifest.json").read_text()


def test_a_source_may_be_saved_twice_after_it_was_read(tmp_path):
    source = JsonShardedSource(written(tmp_path / "rows.jsonl", ROWS))
    save_dataset(source, tmp_path / "set")
    assert len(source) == len(list(source.shuffle(3).rows())) == 30
    assert save_dataset(source, tmp_path / "set").num_examples == 30


def test_iterators_are_never_taken_for_one_another(tmp_path):
    save_iterator(iter(ROWS), tmp_path)
    with pytest.raises(DataError, match="iterator cannot be compared"):
        save_iterator(iter(ROWS), tmp_path)
