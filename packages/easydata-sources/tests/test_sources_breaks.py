"""Files that break off or are broken in their middle: what is whole in front of the break is read, and, where it can be
found, what is behind it."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import tracemalloc
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pytest
from easydata_sources import (
    CsvShardedSource,
    DataFormatError,
    JsonShardedSource,
    ShardedDataSource,
    TextShardedSource,
    as_sharded_source,
)

ROWS = [{"id": i, "text": f"row {i} é"} for i in range(1000)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
CSV = "id,text\n" + "".join(f'{row["id"]},"{row["text"]}"\n' for row in ROWS)


def arrow_compressed(codec: str) -> Callable[[bytes], bytes]:
    def compress(data: bytes) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, codec) as file:
            file.write(data)
        return sink.getvalue().to_pybytes()

    return compress


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    ".zst": arrow_compressed("zstd"),
    ".zstd": arrow_compressed("zstd"),
    ".lz4": arrow_compressed("lz4"),
}


def read(source: ShardedDataSource) -> tuple[list[int], DataFormatError | None]:
    """Return the ids in front of the failure, and it."""
    ids: list[int] = []
    try:
        ids.extend(int(row["id"]) for row in source)
    except DataFormatError as error:
        return ids, error
    return ids, None


def skipped(source: ShardedDataSource) -> tuple[list[int], dict[str, int]]:
    careful = source.on_bad_rows("skip", budget=1.0)
    return [int(row["id"]) for row in careful], careful.reports()[0].counts  # type: ignore[attr-defined]


@pytest.mark.parametrize("ending", COMPRESS)
def test_every_compression_is_read_in_folders_too(ending: str, tmp_path: Path) -> None:
    (tmp_path / f"a.jsonl{ending}").write_bytes(COMPRESS[ending](LINES))
    source = as_sharded_source(tmp_path)
    stream = source.rows()
    head = list(islice(stream, 300))
    assert head + list(as_sharded_source(tmp_path).rows(stream.state())) == ROWS
    assert len(source) == 1000


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz"])
@pytest.mark.parametrize("cut", [1, 9])
def test_a_compressed_file_that_lacks_its_last_bytes_gives_its_rows(ending: str, cut: int, tmp_path: Path) -> None:
    (tmp_path / f"a.jsonl{ending}").write_bytes(COMPRESS[ending](LINES)[:-cut])
    source = JsonShardedSource(tmp_path)
    ids, error = read(source)
    assert ids == list(range(1000))
    assert error is not None
    assert (error.reason, error.row, error.found) == ("damaged_file", 1000, "the file ends before its content does")
    assert skipped(source) == (list(range(1000)), {"damaged_file": 1})


@pytest.mark.parametrize("ending", COMPRESS)
def test_half_a_compressed_file_gives_a_prefix_in_every_way_of_reading(ending: str, tmp_path: Path) -> None:
    data = b"".join(b'{"id": %d, "noise": "%s"}\n' % (i, str(hash((i, "x")) ** 5).encode()) for i in range(3000))
    whole = COMPRESS[ending](data)
    (tmp_path / f"a.jsonl{ending}").write_bytes(whole[: len(whole) * 3 // 4])
    source = JsonShardedSource(tmp_path)
    ids, error = read(source)
    assert error is not None
    if ending in (".gz", ".xz", ".lzma"):  # the others compress in blocks, of which they give all or nothing
        assert len(ids) > 1500
    assert ids == list(range(len(ids)))
    assert skipped(source) == (ids, {"damaged_file": 1})
    stream = source.on_bad_rows("skip", budget=1.0).rows()
    assert [row["id"] for row in islice(stream, len(ids) // 2)] == ids[: len(ids) // 2]
    state = stream.state()
    rest = [row["id"] for row in source.on_bad_rows("skip", budget=1.0).rows(state)]
    assert rest == ids[len(ids) // 2 :]
    assert sorted(row["id"] for row in source.on_bad_rows("skip", budget=1.0).shuffle(1)) == ids
    middle = len(ids) // 2
    from_middle = source.open_shard_at_row(source.shard_names[0], middle)
    assert [row["id"] for row in islice(from_middle, min(5, len(ids) - middle))] == ids[middle : middle + 5]


def test_zeros_behind_a_compressed_file_are_padding_and_anything_else_is_told(tmp_path: Path) -> None:
    for ending in (".gz", ".xz", ".bz2"):
        path = tmp_path / f"a.jsonl{ending}"
        path.write_bytes(COMPRESS[ending](LINES) + bytes(700))
        assert read(JsonShardedSource(path)) == (list(range(1000)), None)
        path.write_bytes(COMPRESS[ending](LINES) + bytes(3) + COMPRESS[ending](b'{"id": 1000}\n') + bytes(2))
        assert read(JsonShardedSource(path)) == (list(range(1001)), None)
        path.write_bytes(COMPRESS[ending](LINES) + b"more")
        ids, error = read(JsonShardedSource(path))
        assert (ids, error and error.reason) == (list(range(1000)), "damaged_file")


@pytest.mark.parametrize("rows", [1, 255, 256, 257, 700])
def test_an_array_that_breaks_off_gives_all_rows_in_front(rows: int, tmp_path: Path) -> None:
    text = json.dumps(ROWS[: rows + 1])
    (tmp_path / "a.json").write_text(text[:-4])
    ids, error = read(JsonShardedSource(tmp_path))
    assert ids == list(range(rows))
    assert (error and error.row) == rows
    assert skipped(JsonShardedSource(tmp_path)) == (ids, {"broken_json": 1})


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ('{"id" 500}', "broken_json"),
        ('{"id": 500, "text": {"deep": [1, ]}}', "broken_json"),
        ('{"id": 500, "text": "a \\x b } ] {"}', "broken_json"),
        ("nul", "broken_json"),
        ('"text, ]"', "not_an_object"),
        ("12345", "not_an_object"),
        ('{"id": ' + "9" * 5000 + "}", "number_too_long"),
        ('{"id": ' + "[" * 100_000 + "]" * 100_000 + "}", "broken_json"),
        ('{"id": "\\ud83d"}', "undecodable"),
        ('{"id": 500, "id": 1}', "duplicate_names"),
    ],
)
def test_an_element_of_an_array_that_cannot_be_read_costs_itself_only(broken: str, reason: str, tmp_path: Path) -> None:
    elements = [json.dumps(row) for row in ROWS]
    elements[500] = broken
    (tmp_path / "a.json").write_text(f"[{', '.join(elements)}]")
    source = JsonShardedSource(tmp_path)
    ids, error = read(source)
    assert ids == list(range(500))
    assert (error and error.row, error and error.reason) == (500, reason)
    expected = [*range(500), *range(501, 1000)]
    assert skipped(source) == (expected, {reason: 1})
    stream = source.on_bad_rows("skip", budget=1.0).rows()
    assert [row["id"] for row in islice(stream, 600)] == expected[:600]
    assert [row["id"] for row in source.on_bad_rows("skip", budget=1.0).rows(stream.state())] == expected[600:]


def test_a_record_whose_quote_does_not_close_costs_itself_only(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    source = CsvShardedSource
    for broken in ('500,"row 500 é\n', '500,"row "500" é"\n', '500,"a\nb "quoted" c\nd"\n'):
        path.write_text(CSV.replace('500,"row 500 é"\n', broken))
        ids, error = read(source(path))
        assert (ids, error and error.row, error and error.reason) == (list(range(500)), 500, "broken_csv")
        expected = [*range(500), *range(501, 1000)]
        assert skipped(source(path)) == (expected, {"broken_csv": 1})
        stream = source(path).on_bad_rows("skip", budget=1.0).rows()
        assert [int(row["id"]) for row in islice(stream, 600)] == expected[:600]
        rest = source(path).on_bad_rows("skip", budget=1.0).rows(stream.state())
        assert [int(row["id"]) for row in rest] == expected[600:]
        assert sorted(int(row["id"]) for row in source(path).on_bad_rows("skip", budget=9).shuffle(3)) == expected


def test_a_quote_that_opens_where_no_other_follows_does_not_swallow_the_file(tmp_path: Path) -> None:
    lines = [f"{i},text {i}\n" for i in range(1000)]
    lines[500] = '500,"never closed\n'
    (tmp_path / "a.csv").write_text("id,text\n" + "".join(lines))
    assert skipped(CsvShardedSource(tmp_path)) == ([*range(500), *range(501, 1000)], {"broken_csv": 1})
    careful = CsvShardedSource(tmp_path).on_bad_rows("skip", budget=1, largest_row_bytes=1000)
    assert len(list(careful)) == 999
    assert careful.reports()[0].counts == {"broken_csv": 1}  # type: ignore[attr-defined]
    (tmp_path / "a.csv").write_text("id,text\n" + "".join(lines[:501]))
    assert skipped(CsvShardedSource(tmp_path)) == (list(range(500)), {"broken_csv": 1})


def test_the_lines_of_a_broken_record_are_no_rows(tmp_path: Path) -> None:
    for broken in (
        '500,"he said "hi", and left\nsecond line, of two\nthird, too"\n',
        '500,"he said "hi",\nand left"\n',
        '500,"' + "a line, as long as it gets\n" * 50 + '"\n',
    ):
        (tmp_path / "a.csv").write_text(CSV.replace('500,"row 500 é"\n', broken))
        careful = CsvShardedSource(tmp_path).on_bad_rows("skip", budget=1, largest_row_bytes=1000)
        assert [int(row["id"]) for row in careful] == [*range(500), *range(501, 1000)]


def test_a_csv_file_cut_within_its_compression_gives_its_records(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(CSV.encode())[:-9])
    ids, error = read(CsvShardedSource(tmp_path))
    assert (ids, error and error.row) == (list(range(1000)), 1000)
    assert skipped(CsvShardedSource(tmp_path)) == (ids, {"damaged_file": 1})


def test_cells_may_be_as_large_as_rows(tmp_path: Path) -> None:
    text = 'x, "y"\n' * 60_000
    (tmp_path / "a.csv").write_text('id,text\n0,"{}"\n1,b\n'.format(text.replace('"', '""')))
    assert [row["text"] for row in CsvShardedSource(tmp_path)] == [text, "b"]
    careful = CsvShardedSource(tmp_path).on_bad_rows("skip", budget=1, largest_row_bytes=200_000)
    assert [row["id"] for row in careful] == ["1"]


@pytest.mark.parametrize("ending", [".jsonl.gz", ".json.gz", ".csv.gz", ".txt.gz", ".jsonl.xz", ".json.zst"])
def test_a_row_that_grows_without_end_is_never_held(ending: str, tmp_path: Path) -> None:
    size = 40_000_000
    giant, tail = {
        ".jsonl": (b'{"id": 0, "text": "' + b" " * size + b'"}\n{"id": 1}\n', 1),
        ".json": (b'[{"id": 0, "text": "' + b" " * size + b'"}, {"id": 1}]', 1),
        ".csv": (b'id,text\n0,"' + b" " * size + b'"\n1,b\n', 1),
        ".txt": (b" " * size + b"\nid 1\n", 1),
    }["." + ending.split(".")[1]]
    (tmp_path / f"a{ending}").write_bytes(COMPRESS["." + ending.split(".")[2]](giant))
    del giant
    source = as_sharded_source(tmp_path)
    tracemalloc.start()
    try:
        rows = list(source.on_bad_rows("skip", budget=1, largest_row_bytes=1 << 20))
        assert len(rows) == tail
        with pytest.raises(DataFormatError, match=r"larger than rows may be"):
            list(source.on_bad_rows("raise", largest_row_bytes=1 << 20))
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_a_byte_order_mark_belongs_to_no_row(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbffirst\nsecond\n")
    assert [row["text"] for row in TextShardedSource(tmp_path)] == ["first", "second"]
    assert [row["text"] for row in TextShardedSource(tmp_path).shuffle(1)] != []
    assert sorted(row["text"] for row in TextShardedSource(tmp_path).shuffle(1)) == ["first", "second"]
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfid\n1\n")
    assert list(CsvShardedSource(tmp_path)) == [{"id": "1"}]
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf\n{"id": 1}\n')
    assert list(JsonShardedSource(tmp_path)) == [{"id": 1}]
