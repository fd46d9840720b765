"""Files that are broken: each error names the file, the place, what was found and a mend."""

from __future__ import annotations

import gzip
import io
import json
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from easydata_sources import (
    ArrowShardedSource,
    CsvShardedSource,
    DataFormatError,
    JsonShardedSource,
    MemoryShardedSource,
    ParquetShardedSource,
    ShardedDataSource,
    TextShardedSource,
)

SOURCES: dict[str, type[ShardedDataSource]] = {
    ".parquet": ParquetShardedSource,
    ".arrow": ArrowShardedSource,
    ".csv": CsvShardedSource,
    ".txt": TextShardedSource,
}


def failure(path: Path, content: bytes) -> tuple[int, DataFormatError]:
    """Return how many rows came before the error, and the error."""
    path.write_bytes(content)
    stream = SOURCES.get(path.suffix, JsonShardedSource)(path).rows()  # type: ignore[call-arg]
    good: list[object] = []
    with pytest.raises(DataFormatError) as caught:
        good.extend(stream)
    error = pickle.loads(pickle.dumps(caught.value))
    assert str(error) == str(caught.value)
    assert error.file == str(path)
    assert error.mend
    assert str(path) in str(error)
    return len(good), error


def parquet_bytes() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": list(range(100))}), sink)
    return sink.getvalue()


def test_a_truncated_json_line_names_row_and_byte_after_the_good_rows(tmp_path: Path) -> None:
    good, error = failure(tmp_path / "a.jsonl", b'{"id": 1}\n\n{"id": 2}\n{"id": 3, "text": "brea')
    assert (good, error.row) == (2, 2)
    assert error.found is not None
    assert '{"id": 3, "text": "brea' in error.found
    assert "begins at byte 21" in error.found  # 10 bytes, a blank line, 10 bytes


def test_a_broken_line_is_found_again_after_resuming_before_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"id": 1}\n{"id": 2}\n{"id": 3\n{"id": 4}\n')
    stream = JsonShardedSource(path).rows()
    next(stream)
    resumed = JsonShardedSource(path).rows(stream.state())
    assert next(resumed) == {"id": 2}
    with pytest.raises(DataFormatError) as caught:
        next(resumed)
    assert caught.value.row == 2


def test_a_stream_that_failed_fails_again_and_never_seems_to_end(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"id": 1}\n{"id": 2}\n{"id": 3\n{"id": 4}\n')
    stream, batches = JsonShardedSource(path).rows(), JsonShardedSource(path).batches(10)
    assert [next(stream), next(stream)] == next(batches).to_pylist() == [{"id": 1}, {"id": 2}]
    for _ in range(2):
        with pytest.raises(DataFormatError, match="row: 2"):
            next(stream)
        with pytest.raises(DataFormatError, match="row: 2"):
            next(batches)
        assert stream.state()["row"] == batches.state()["row"] == 2


@pytest.mark.parametrize(
    ("line", "found"),
    [(b"[1, 2]", "a JSON list"), (b"7", "a JSON int"), (b'{"a": \xff}', "not UTF-8"), (b"{'a': 1}", "double quotes")],
)
def test_a_line_that_is_no_object_says_what_it_is(line: bytes, found: str, tmp_path: Path) -> None:
    good, error = failure(tmp_path / "a.jsonl", b'{"id": 1}\n' + line + b"\n")
    assert (good, error.row) == (1, 1)
    assert found in str(error.found)


@pytest.mark.parametrize(
    ("content", "row", "found"),
    [
        (b'[{"id": 1}, {"id": 2', 1, ""),
        (b'[{"id": 1}, {"id": 2}', 2, "the end of the file"),
        (b'[{"id": 1} {"id": 2}]', 1, "'{'"),
        (b'[{"id": 1}, 7]', 1, "a JSON int"),
        (b'[{"id": 1}] extra', 1, "after the end of the array"),
        (b'[{"id": 1}, {"id": \xff}]', 1, "\\xff"),
        (b'[{"id": 1}, {"id": "\xff"}]', 1, "not UTF-8"),
    ],
)
def test_a_broken_array_names_the_row(content: bytes, row: int, found: str, tmp_path: Path) -> None:
    _, error = failure(tmp_path / "a.json", content)
    assert error.row == row
    assert found in str(error.found)


def test_a_long_string_over_many_blocks_is_read_whole(tmp_path: Path) -> None:
    row = {"id": 1, "text": "é" * 1_000_000}
    (tmp_path / "a.json").write_text(json.dumps([row, row], ensure_ascii=False))
    (tmp_path / "b.jsonl").write_text("\n".join([json.dumps(row)] * 2))
    assert list(JsonShardedSource(tmp_path)) == [row] * 4


@pytest.mark.parametrize("content", [b"", b"\n \n", b"[]", b" [ ] "])
def test_a_json_file_without_rows_is_empty(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    source = JsonShardedSource(tmp_path)
    assert list(source) == []
    assert len(source) == 0


def test_json_rows_stay_exact(tmp_path: Path) -> None:
    rows = [{"args": {"x": 1}}, {"args": {"y": "s"}}, {"args": None}, {}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert list(JsonShardedSource(tmp_path)) == rows


def test_json_lines_named_json_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"id": 1}\r\n{"id": 2}\r\n')
    (tmp_path / "b.json").write_bytes(b'\xef\xbb\xbf[{"id": 3}]')
    assert list(JsonShardedSource(tmp_path)) == [{"id": 1}, {"id": 2}, {"id": 3}]


def test_a_column_of_mixed_types_is_named_by_batches(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1, "x": "a"}\n{"id": 2, "x": {"b": 1}}\n')
    with pytest.raises(DataFormatError, match=r"column: x\n  found: values of type dict, str"):
        next(JsonShardedSource(tmp_path).batches())


def test_batches_hold_the_union_of_keys() -> None:
    batch = next(MemoryShardedSource([{"a": 1}, {"b": [1.5]}, {}]).batches())
    assert batch.to_pylist() == [{"a": 1, "b": None}, {"a": None, "b": [1.5]}, {"a": None, "b": None}]


@pytest.mark.parametrize("content", [b"", b"PAR1", parquet_bytes()[:-8], parquet_bytes()[:40] + b"PAR1"])
def test_a_parquet_file_without_its_footer_is_named(content: bytes, tmp_path: Path) -> None:
    _, error = failure(tmp_path / "a.parquet", content)
    assert f"{len(content)} bytes" in str(error.found)


def test_damaged_parquet_pages_are_named(tmp_path: Path) -> None:
    content = bytearray(parquet_bytes())
    content[4:60] = b"\xff" * 56
    failure(tmp_path / "a.parquet", bytes(content))


def test_a_parquet_file_without_rows_is_empty(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": pa.array([], pa.int64())}), tmp_path / "a.parquet")
    assert list(ParquetShardedSource(tmp_path)) == []
    assert len(ParquetShardedSource(tmp_path)) == 0


def test_a_missing_parquet_column_lists_the_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1]}), tmp_path / "a.parquet")
    with pytest.raises(DataFormatError, match=r"column: text\n  found: columns id"):
        next(ParquetShardedSource(tmp_path, columns=["id", "text"]).rows())


@pytest.mark.parametrize("content", [b"not gzip", gzip.compress(b'{"id": 1}\n' * 10, mtime=0)[:-12]])
def test_a_damaged_gzip_is_named(content: bytes, tmp_path: Path) -> None:
    _, error = failure(tmp_path / "a.jsonl.gz", content)
    assert "gzip" in str(error)


@pytest.mark.parametrize("content", [b"", b"ARROW1 and no more", b"neither"])
def test_a_broken_arrow_file_is_named(content: bytes, tmp_path: Path) -> None:
    failure(tmp_path / "a.arrow", content)


def test_a_csv_row_with_too_many_values_names_the_row(tmp_path: Path) -> None:
    _, error = failure(tmp_path / "a.csv", b"a,b\n1,2\n3,4,5\n")
    assert error.row == 1
    failure(tmp_path / "b.csv", b'a,b\n1,"never closed\n2,3\n')


def test_tabs_separate_tsv_files(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("q\ta\n1, 2\t3\n")
    assert list(CsvShardedSource(tmp_path)) == [{"q": "1, 2", "a": "3"}]


def test_bytes_that_are_not_text_name_the_row(tmp_path: Path) -> None:
    _, error = failure(tmp_path / "a.txt", b"fine\n\xff\xfe\n")
    assert error.row == 1


def test_rows_in_a_list_must_be_dicts() -> None:
    with pytest.raises(DataFormatError, match=r"row: 1\n  found: str 'text'"):
        MemoryShardedSource([{"a": 1}, "text"])  # type: ignore[list-item]
