"""Values that are sound somewhere and cannot be rows here: told with file, row and column, and each costs one row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from easydata_sources import (
    ArrowShardedSource,
    CsvShardedSource,
    DataFormatError,
    JsonShardedSource,
    ParquetShardedSource,
    ShardedDataSource,
)
from easydata_sources.rows import table_as_batch, widened

NOT_TEXT = pa.array([b"ok", b"\xff\xfe", b"fine", b"too"], pa.binary()).view(pa.string())

CELLS: dict[str, tuple[pa.Array, set[int]]] = {
    "text": (NOT_TEXT, {1}),
    "text in lists": (pa.ListArray.from_arrays(pa.array([0, 1, 2, 3, 4], pa.int32()), NOT_TEXT), {1}),
    "text in structs": (pa.StructArray.from_arrays([NOT_TEXT], names=["inner"]), {1}),
    "date behind 9999": (pa.array([1, 2, 500_000_000, 3], pa.int32()).cast(pa.date32()), {2}),
    "time before 1": (pa.array([-(2**62), 0, 1, 2], pa.timestamp("us")), {0}),
    "unknown zone": (pa.array([None, 1, None, None], pa.timestamp("us", "Nowhere/Land")), {1}),
    "duration": (pa.array([1, 2, 3, 2**62], pa.duration("s")), {3}),
    "fields of one name": (
        pa.StructArray.from_arrays([pa.array([1, 2, 3, 4])] * 2, names=["a", "a"]),
        {0, 1, 2, 3},
    ),
}

WRITE: dict[type[ShardedDataSource], Callable[[pa.Table, Path], object]] = {
    ParquetShardedSource: lambda table, folder: pq.write_table(table, folder / "a.parquet"),
    ArrowShardedSource: lambda table, folder: write_arrow(table, folder / "a.arrow"),
}


def write_arrow(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize("kind", WRITE)
@pytest.mark.parametrize("name", CELLS)
def test_a_value_that_python_cannot_hold_costs_its_row(
    kind: type[ShardedDataSource], name: str, tmp_path: Path
) -> None:
    column, bad = CELLS[name]
    WRITE[kind](pa.table({"id": [0, 1, 2, 3], "cell": column}), tmp_path)
    source = kind(tmp_path)  # type: ignore[call-arg]
    for read in (source.rows(), source.batches(100)):
        with pytest.raises(DataFormatError) as caught:
            list(read)
        assert (caught.value.row, caught.value.column) == (min(bad), "cell")
        assert caught.value.file == source.shard_names[0]
    skip = source.on_bad_rows("skip", budget=12)
    good = sorted({0, 1, 2, 3} - bad)
    assert [row["id"] for row in skip] == good
    assert skip.reports()[0].counts == {"unreadable_value": len(bad)}  # type: ignore[attr-defined]
    assert sorted(row["id"] for row in skip.shuffle(2)) == good
    assert [row["id"] for batch in skip.batches(10) for row in batch.to_pylist()] == good


def test_times_finer_than_pythons_need_no_other_library_where_nothing_is_lost(tmp_path: Path) -> None:
    pq.write_table(pa.table({"at": pa.array([1_000, 2_000], pa.timestamp("ns"))}), tmp_path / "a.parquet")
    assert [row["at"].microsecond for row in ParquetShardedSource(tmp_path)] == [1, 2]


TWICE = pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], names=["id", "text", "id"])


def test_columns_of_one_name_are_refused_by_name(tmp_path: Path) -> None:
    pq.write_table(TWICE, tmp_path / "a.parquet")
    write_arrow(TWICE, tmp_path / "a.arrow")
    (tmp_path / "a.csv").write_text("id,text,id\n1,2,3\n")
    for kind in (ParquetShardedSource, ArrowShardedSource, CsvShardedSource):
        for read in (lambda source: source.rows(), lambda source: source.batches(5), lambda source: source.shuffle(1)):
            with pytest.raises(DataFormatError, match=r"same name\.\n(.|\n)*column: 'id'\n  found: 3 columns"):
                list(read(kind(tmp_path)))
        assert list(kind(tmp_path).on_bad_rows("skip", budget=1)) == []
    assert list(ParquetShardedSource(tmp_path, columns=["text"])) == [{"text": 2}]


@pytest.mark.parametrize("layout", ["lines", "array"])
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a": 1, "a": 2}', "holds 'a' twice"),
        ('{"a": {"b": 1, "b": 1}}', "holds 'b' twice"),
        ('{"a": "\\ud83d"}', "half of a surrogate pair"),
        ('{"\\udc00": 1}', "half of a surrogate pair"),
        ('{"a": ["x", {"b": "\\ude00\\ud83d"}]}', "half of a surrogate pair"),
        ('{"a": "\\u00e9 \\ud83d\\ude00 \\ud83d"}', "half of a surrogate pair"),
        (b'{"a": "\xed\xa0\xbd"}', "not UTF-8"),
        (b'{"a": "\xc0\xaf"}', "not UTF-8"),
        ('{"a": ' + "1" * 5000 + "}", "more digits"),
        ('{"a": -' + "1" * 5000 + "}", "more digits"),
        ('{"a": ' + "[" * 200 + "]" * 200 + "}", "nested deeper than 128"),
        ('{"a": ' + '{"a": ' * 50_000 + "1" + "}" * 50_001, "nested deeper than 128"),
    ],
)
def test_json_that_no_row_can_hold_is_refused_where_it_is_read(
    layout: str, text: str | bytes, found: str, tmp_path: Path
) -> None:
    odd = text if isinstance(text, bytes) else text.encode()
    lines = [b'{"id": 0}', odd, b'{"id": 2}']
    path = tmp_path / ("a.jsonl" if layout == "lines" else "a.json")
    path.write_bytes(b"\n".join(lines) if layout == "lines" else b"[" + b",\n".join(lines) + b"]")
    source = JsonShardedSource(path)
    with pytest.raises(DataFormatError, match=found) as caught:
        list(source)
    assert caught.value.row == 1
    assert len(str(caught.value)) < 1500
    assert [row["id"] for row in source.on_bad_rows("skip", budget=1)] == [0, 2]
    assert len(list(source.on_bad_rows("quarantine", file=str(tmp_path / "q" / "bad.jsonl"), budget=1))) == 2


def test_pairs_of_surrogates_and_brackets_within_reason_are_read(tmp_path: Path) -> None:
    row = {"text": "😀 \\ud83d", "deep": json.loads("[" * 120 + "]" * 120)}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row, ensure_ascii=False))
    assert list(JsonShardedSource(tmp_path)) == [row, row]
    (tmp_path / "a.jsonl").unlink()
    (tmp_path / "b.json").write_text(json.dumps([row, row]))
    assert list(JsonShardedSource(tmp_path)) == [row, row]


def test_whether_nesting_is_refused_does_not_depend_on_the_callers_own_depth(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"deep": json.loads("[" * 120 + "]" * 120)}))

    def deeper(levels: int) -> int:
        return deeper(levels - 1) if levels else len(list(JsonShardedSource(tmp_path)))

    assert deeper(0) == deeper(600) == 1


def test_only_the_columns_that_were_asked_for_are_given(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [{"b": 1, "c": 2}], "a.b": [5], "z": [9]}), tmp_path / "a.parquet")
    for columns, row in {
        ("a.b",): {"a.b": 5},
        ("a",): {"a": {"b": 1, "c": 2}},
        ("z", "a"): {"z": 9, "a": {"b": 1, "c": 2}},
    }.items():
        source = ParquetShardedSource(tmp_path, columns=columns)
        assert [list(row) for row in source] == [list(columns)]
        assert list(source) == list(source.shuffle(1)) == [row]
    pq.write_table(pa.table({"a": [{"b": 1, "c": 2}]}), tmp_path / "a.parquet")
    with pytest.raises(DataFormatError, match=r"column: a\.b"):
        list(ParquetShardedSource(tmp_path, columns=["a.b"]))


def test_chunks_that_cannot_become_one_array_get_the_large_twin_of_their_type() -> None:
    kinds = {
        "text": (pa.string(), ["a", None]),
        "bytes": (pa.binary(), [b"a", b"b"]),
        "list": (pa.list_(pa.string()), [["a", "b"], None]),
        "struct": (pa.struct([("inner", pa.list_(pa.binary())), ("n", pa.int64())]), [{"inner": [b"x"], "n": 1}, None]),
        "map": (pa.map_(pa.string(), pa.list_(pa.string())), [[("k", ["v"])], None]),
        "number": (pa.int64(), [1, 2]),
    }
    table = pa.table({name: pa.chunked_array([values, values], kind) for name, (kind, values) in kinds.items()})
    wide = widened(table)
    assert table_as_batch(wide).to_pylist() == table.to_pylist()
    assert {name: str(kind) for name, kind in zip(wide.schema.names, wide.schema.types, strict=True)} == {
        "text": "large_string",
        "bytes": "large_binary",
        "list": "large_list<item: large_string>",
        "struct": "struct<inner: large_list<item: large_binary>, n: int64>",
        "map": "map<large_string, large_list<item: large_string>>",
        "number": "int64",
    }
