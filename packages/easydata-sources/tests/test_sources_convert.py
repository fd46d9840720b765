from __future__ import annotations

import gzip
import json
import pickle
import subprocess
import sys
from pathlib import Path

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from easydata_sources import (
    ArrowShardedSource,
    CompositeShardedSource,
    CsvShardedSource,
    DataError,
    DataFilesNotFoundError,
    HFDatasetShardedSource,
    JsonShardedSource,
    MemoryShardedSource,
    ParquetShardedSource,
    TableShardedSource,
    TextShardedSource,
    as_sharded_source,
)

ROWS = [{"id": 1}, {"id": 2}]


def test_a_source_is_returned_as_it_is() -> None:
    source = MemoryShardedSource(ROWS)
    assert as_sharded_source(source) is source


def test_lists_and_tuples_of_dicts() -> None:
    assert list(as_sharded_source(ROWS)) == ROWS
    assert as_sharded_source(tuple(ROWS), name="eval").shard_names == ("eval",)
    assert list(as_sharded_source([])) == []


def test_hugging_face_data_sets() -> None:
    dataset = datasets.Dataset.from_list(ROWS)
    for given in (dataset, dataset.to_iterable_dataset()):
        source = as_sharded_source(given)
        assert isinstance(source, HFDatasetShardedSource)
        assert list(source) == ROWS


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jsonl", JsonShardedSource),
        ("a.ndjson", JsonShardedSource),
        ("a.json", JsonShardedSource),
        ("a.jsonl.gz", JsonShardedSource),
        ("a.json.zst", JsonShardedSource),
        ("A.JSONL", JsonShardedSource),
        ("a.parquet", ParquetShardedSource),
        ("a.pq", ParquetShardedSource),
        ("a.arrow", ArrowShardedSource),
        ("a.csv", CsvShardedSource),
        ("a.tsv.gz", CsvShardedSource),
        ("a.txt", TextShardedSource),
    ],
)
def test_the_extension_says_the_format(name: str, kind: type, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    assert isinstance(as_sharded_source(tmp_path / name), kind)
    assert isinstance(as_sharded_source(str(tmp_path / "[aA].*")), kind)


def test_paths_and_globs_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b'{"id": 3}'))
    assert list(as_sharded_source(tmp_path)) == [*ROWS, {"id": 3}]
    assert list(as_sharded_source([tmp_path / "b.jsonl.gz", tmp_path / "a.jsonl"])) == [{"id": 3}, *ROWS]


def test_a_folder_of_several_formats_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1}')
    pq.write_table(pa.table({"id": [1]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"several formats: 1 of \.jsonl .*; 1 of \.parquet"):
        as_sharded_source(tmp_path)


def test_an_unknown_extension_lists_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_bytes(b"")
    with pytest.raises(DataError, match=r"format of .*a\.xlsx(.|\n)*\.parquet"):
        as_sharded_source(tmp_path / "a.xlsx")


def test_a_mistyped_path_is_a_missing_file_and_never_a_name_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(DataFilesNotFoundError, match="no file"):
        as_sharded_source(str(tmp_path / "dta" / "train"))


def test_what_is_no_data_set_says_what_is_accepted() -> None:
    with pytest.raises(TypeError, match=r"accepted: a ShardedDataSource(.|\n)*list\(generator\)"):
        as_sharded_source(row for row in ROWS)
    with pytest.raises(TypeError, match=r"keys train(.|\n)*dataset\['train'\]"):
        as_sharded_source({"train": ROWS})


def test_two_unnamed_data_sets_are_both_read_once() -> None:
    parts = [HFDatasetShardedSource(datasets.Dataset.from_list([{"id": i}])) for i in range(3)]
    both = CompositeShardedSource(parts)
    assert both.shard_names == ("hf_dataset:0", "hf_dataset:0#2", "hf_dataset:0#3")
    assert [row["id"] for name in both.shard_names for row in both.open_shard(name)] == [0, 1, 2]
    nested = CompositeShardedSource([both, *parts])
    assert len(set(nested.shard_names)) == 6


def test_an_empty_composite_is_refused() -> None:
    with pytest.raises(DataError, match="at least one source"):
        CompositeShardedSource([])


def test_an_unknown_shard_lists_the_shards() -> None:
    with pytest.raises(DataError, match=r"no shard 'b'; this MemoryShardedSource has 1: 'memory'"):
        MemoryShardedSource(ROWS).open_shard_at_row("b", 0).__next__()


def test_shard_info_of_files_knows_rows_of_parquet_and_bytes(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1, 2, 3]}), tmp_path / "a.parquet")
    source = ParquetShardedSource(tmp_path)
    info = source.get_shard_info(source.shard_names[0])
    assert info is not None
    assert (info.num_rows, info.byte_size) == (3, (tmp_path / "a.parquet").stat().st_size)
    assert info.url == str(tmp_path / "a.parquet")


def test_importing_loads_nothing_heavy() -> None:
    code = (
        "import sys, easydata_sources\n"
        "from easydata_sources import *\n"
        "heavy = {'pyarrow', 'datasets', 'transformers', 'jax', 'torch', 'numpy', 'pandas'} & set(sys.modules)\n"
        "source = easydata_sources.as_sharded_source([{'id': 1}])\n"
        "assert list(source.map(lambda row: row)) == [{'id': 1}]\n"
        "heavy |= {'pyarrow', 'datasets'} & set(sys.modules)\n"
        "print(sorted(heavy))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_importing_takes_less_than_0_3_seconds() -> None:
    code = "import time; t = time.process_time(); import easydata_sources; print(time.process_time() - t)"
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(times) < 0.3


def test_what_is_known_of_a_shard_is_the_same_before_and_after_its_rows_were_counted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1}\n{"id": 2}\n')
    source = as_sharded_source(tmp_path / "a.jsonl")
    for view in (source, source.limit(1), source.map(dict)):
        (name,) = view.shard_names
        before = view.get_shard_info(name)
        assert len(source) == 2
        assert view.get_shard_info(name) == before


def test_data_frames_and_arrow_tables_are_data_sets() -> None:
    rows = [
        {"id": 1, "text": "a", "list": [1]},
        {"id": 2, "text": None, "list": []},
        {"id": 3, "text": "c", "list": [2]},
    ]
    table = pa.Table.from_pylist(rows)
    frame = pd.DataFrame(rows)
    for given in (table, table.to_batches()[0], frame, frame.set_index(pd.Index([7, 5, 9])), OtherFrame(table)):
        source = as_sharded_source(given, name="train")
        assert isinstance(source, TableShardedSource)
        assert (list(source), len(source), source.shard_names) == (rows, 3, ("train",))
        stream = source.rows()
        next(stream)
        assert list(as_sharded_source(given).rows(stream.state())) == rows[1:]
        assert sorted(row["id"] for row in source.shuffle(1)) == [1, 2, 3]
        assert source.identity() == as_sharded_source(given, name="other").identity()
        assert list(pickle.loads(pickle.dumps(source))) == rows
    assert list(as_sharded_source(frame[frame["id"] > 1])) == rows[1:]
    assert list(as_sharded_source(pd.DataFrame({"id": []}))) == []
    values = pd.DataFrame({"score": [1.5, float("nan")], "when": [pd.Timestamp("2020-01-01"), pd.NaT]})
    assert list(as_sharded_source(values))[1] == {"score": None, "when": None}


class OtherFrame:
    """A data frame of a library that is not known, as Polars is: it speaks Arrow's stream interface."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self.columns = table.schema.names

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "several columns of one name: 'a'"),
        (pa.table([[1], [2]], names=["a", "a"]), "several columns of one name: 'a'"),
        (pd.DataFrame([[1, 2]]), r"names of columns are texts(.|\n)*rename\(columns=str\)"),
        (pd.DataFrame({"a": [1, "b"]}), r"no single Arrow type(.|\n)*column a(.|\n)*to_dict"),
    ],
)
def test_tables_that_hold_no_rows_are_refused(frame: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        as_sharded_source(frame)


def test_a_stream_of_batches_that_is_read_once_is_no_table() -> None:
    with pytest.raises(TypeError, match="data frame or Arrow table"):
        as_sharded_source(pa.table({"a": [1]}).to_reader())
