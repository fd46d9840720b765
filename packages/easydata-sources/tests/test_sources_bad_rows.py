"""Bad rows of every kind, in every format: raised, skipped or put in quarantine; the same after a restart and on any
number of hosts."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from easydata_sources import (
    ArrowShardedSource,
    BadRows,
    BatchTransform,
    CompositeShardedSource,
    CountingTransform,
    CsvShardedSource,
    DataAccessError,
    DataError,
    DataFormatError,
    DataQualityError,
    DataReport,
    HFDatasetShardedSource,
    JsonShardedSource,
    MemoryShardedSource,
    ParquetShardedSource,
    Row,
    RowError,
    ShardedDataSource,
    TextShardedSource,
    as_sharded_source,
)
from easydata_sources.formats.lines import LineRun
from hypothesis import given, settings
from hypothesis import strategies as st

LARGEST = 2000
"""Bytes of a row in these tests; the default of 32 MB has a test of its own."""

GIANT = "x" * (2 * LARGEST)


def lines(folder: Path) -> tuple[ShardedDataSource, dict[str, int]]:
    good = [json.dumps({"id": i}).encode() for i in range(40)]
    good[5:5] = [b'{"id": 1', b"", b'{"text": "\xff"}', b"[1]"]
    good[30:30] = [json.dumps({"id": 0, "text": GIANT}).encode(), b"[" * 100_000]
    (folder / "a.jsonl").write_bytes(b"\n".join(good[:20]))
    (folder / "b.jsonl").write_bytes(b"\n".join(good[20:]))
    return JsonShardedSource(folder), {"broken_json": 1, "undecodable": 1, "not_an_object": 1, "too_large": 2}


def compressed_lines(folder: Path) -> tuple[ShardedDataSource, dict[str, int]]:
    for number, cut in enumerate((None, -40)):
        rows = (json.dumps({"id": i + 20 * number, "noise": os.urandom(600).hex()}) for i in range(20))
        (folder / f"{number}.jsonl.gz").write_bytes(gzip.compress("\n".join(rows).encode())[:cut])
    return JsonShardedSource(folder), {"damaged_file": 1}


def array(folder: Path) -> tuple[ShardedDataSource, dict[str, int]]:
    rows: list[object] = [{"id": i} for i in range(20)]
    rows[7:7] = [7, {"id": 0, "text": GIANT}]
    (folder / "a.json").write_text(json.dumps(rows))
    (folder / "b.json").write_text(json.dumps([{"id": i} for i in range(20, 40)])[:-5] + "}, {broken")
    return JsonShardedSource(folder), {"not_an_object": 1, "too_large": 1, "broken_json": 2}


def table(folder: Path) -> tuple[ShardedDataSource, dict[str, int]]:
    text = ["y" * 50] * 40
    text[3] = GIANT
    pq.write_table(pa.table({"id": range(40), "text": text}), folder / "a.parquet", row_group_size=10, compression=None)
    damaged = bytearray((folder / "a.parquet").read_bytes())
    place = pq.ParquetFile(folder / "a.parquet").metadata.row_group(2).column(0).data_page_offset
    damaged[place - 60 : place + 60] = b"\xff" * 120
    (folder / "a.parquet").write_bytes(damaged)
    pq.write_table(pa.table({"id": range(40, 50)}), folder / "b.parquet")
    pq.write_table(pa.table({"id": range(50, 60), "text": ["z"] * 10}), folder / "c.parquet")
    return ParquetShardedSource(folder, columns=["id", "text"]), {
        "too_large": 1,
        "damaged_file": 10,
        "missing_column": 1,
    }


def arrow_batches(folder: Path) -> tuple[ShardedDataSource, dict[str, int]]:
    data = pa.table({"id": range(30), "text": ["t"] * 9 + [GIANT] + ["t"] * 20})
    for name, kind in {"a": pa.ipc.new_file, "b": pa.ipc.new_stream}.items():
        with kind(folder / f"{name}.arrow", data.schema) as writer:
            writer.write_table(data, max_chunksize=7)
    whole = (folder / "b.arrow").read_bytes()
    (folder / "b.arrow").write_bytes(whole[: int(len(whole) * 0.95)])
    return ArrowShardedSource(folder), {"too_large": 2, "damaged_file": 1}


def delimited(folder: Path) -> tuple[ShardedDataSource, dict[str, int]]:
    records = [f'{i},"text {i}"'.encode() for i in range(40)]
    records[4:4] = [b"1,2,3", b"5,\xff", f"6,{GIANT}".encode(), b'7,"a" b']
    (folder / "a.csv").write_bytes(b"\n".join([b"id,text", *records]))
    counts = {"wrong_number_of_values": 1, "undecodable": 1, "too_large": 1, "broken_csv": 1}
    return CsvShardedSource(folder), counts


def texts(folder: Path) -> tuple[ShardedDataSource, dict[str, int]]:
    good = [f"line {i}".encode() for i in range(40)]
    good[11:11] = [b"\xff\xfe", GIANT.encode()]
    (folder / "a.txt").write_bytes(b"\n".join(good))
    return TextShardedSource(folder).map(lambda row: {"id": int(row["text"].split()[1])}), {
        "undecodable": 1,
        "too_large": 1,
    }


def vanished(folder: Path) -> tuple[ShardedDataSource, dict[str, int]]:
    for number in range(3):
        (folder / f"{number}.jsonl").write_text("".join(f'{{"id": {number * 20 + i}}}\n' for i in range(20)))
    source = JsonShardedSource(folder)
    (folder / "1.jsonl").unlink()
    return source, {"file_gone": 1}


def unfit(folder: Path) -> tuple[ShardedDataSource, dict[str, int]]:
    rows: list[Row] = [{"id": i, "tokens": [i]} for i in range(40)]
    rows[13:13] = [{"id": 0}, {"id": 0, "tokens": None}, {"id": 0, "tokens": "text"}]
    counts = {"missing_column": 1, "wrong_type": 2}
    return MemoryShardedSource(rows).map(lambda row: {**row, "sum": sum(row["tokens"]) + len(row["tokens"])}), counts


def unfit_in_batches(folder: Path) -> tuple[ShardedDataSource, dict[str, int]]:
    rows: list[Row] = [{"id": i} for i in range(600)]
    for index in (3, 4, 300, 599):
        rows[index] = {"id": None}
    return MemoryShardedSource(rows).transform(Numbered()), {"unfit_row": 4}


def together(folder: Path) -> tuple[ShardedDataSource, dict[str, int]]:
    (folder / "lines").mkdir()
    (folder / "table").mkdir()
    first, counts = lines(folder / "lines")
    second, more = table(folder / "table")
    joined = CompositeShardedSource([first, second]).filter(lambda row: row["id"] % 7).limit(200)
    return joined.map(lambda row: {"id": row["id"]}), {
        reason: counts.get(reason, 0) + more.get(reason, 0) for reason in counts | more
    }


class Numbered(CountingTransform):
    """Refuses rows without a number, naming the row of the batch; counts what it saw."""

    def __init__(self) -> None:
        self.report = DataReport()

    def transform_batch(self, rows: Sequence[Row]) -> list[list[Row]]:
        self.report.saw(len(rows))
        for index, row in enumerate(rows):
            if row["id"] is None:
                raise RowError("A row has no number.", row_in_batch=index, column="id", found="None")
        return [[row, {"id": -row["id"]}] for row in rows]


CASES: dict[str, Callable[[Path], tuple[ShardedDataSource, dict[str, int]]]] = {
    builder.__name__: builder
    for builder in (
        lines,
        compressed_lines,
        array,
        table,
        arrow_batches,
        delimited,
        texts,
        vanished,
        unfit,
        unfit_in_batches,
        together,
    )
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[ShardedDataSource, dict[str, int]]:
    folder = tmp_path / "data"
    folder.mkdir()
    return CASES[request.param](folder)


def skipping(source: ShardedDataSource) -> ShardedDataSource:
    return source.on_bad_rows("skip", budget=1.0, largest_row_bytes=LARGEST)


def entries(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_skipping_leaves_the_good_rows_and_counts_the_others(case: tuple[ShardedDataSource, dict[str, int]]) -> None:
    source, counts = case
    with pytest.raises((DataError, LookupError, TypeError, FileNotFoundError)):
        list(source.on_bad_rows("raise", largest_row_bytes=LARGEST))
    stage = skipping(source)
    rows = list(stage)
    assert rows
    assert None not in [row["id"] for row in rows]
    (report,) = stage.reports()  # type: ignore[attr-defined]
    assert report.counts == counts


def test_quarantine_names_place_reason_and_row_once(
    case: tuple[ShardedDataSource, dict[str, int]], tmp_path: Path
) -> None:
    source, counts = case
    file = tmp_path / "quarantine" / "bad.jsonl"
    quarantine = partial(source.on_bad_rows, "quarantine", file=str(file), budget=1.0, largest_row_bytes=LARGEST)
    stage = quarantine()
    assert list(stage) == list(skipping(source))
    first = file.read_bytes()
    written = entries(file)
    assert {entry["reason"] for entry in written} == set(counts)
    for entry in written:
        assert isinstance(entry["row"], int)
        assert str(entry["file"]) in str(entry["error"])
    with file.open("ab") as torn:
        torn.write(b'{"file": "cut off by a k')
    for again in (quarantine(), quarantine()):  # a run started again
        assert list(again) == list(skipping(source))
    assert list(stage) == list(skipping(source))  # a second epoch
    assert file.read_bytes() == first


def test_resuming_after_any_row_gives_the_rest_and_the_same_counts(
    case: tuple[ShardedDataSource, dict[str, int]],
) -> None:
    source, counts = case
    rows = list(skipping(source))
    stream = skipping(source).rows()
    for k in range(0, len(rows), 1 + len(rows) // 60):
        state = json.loads(json.dumps(stream.state()))
        fresh = skipping(source)
        assert list(fresh.rows(state)) == rows[k:]
        (report,) = fresh.reports()  # type: ignore[attr-defined]
        assert report.counts == counts
        list(islice(stream, 1 + len(rows) // 60))


@pytest.mark.parametrize("hosts", [2, 3, 8])
def test_any_number_of_hosts_keep_the_same_rows(hosts: int, case: tuple[ShardedDataSource, dict[str, int]]) -> None:
    source, counts = case
    shares = [skipping(source).shard(index, hosts, window=4) for index in range(hosts)]
    rows = [row for share in shares for row in share]
    key = json.dumps
    assert sorted(map(key, rows)) == sorted(map(key, skipping(source)))
    found: dict[str, int] = {}
    for share in shares:
        for reason, count in share.reports()[0].counts.items():  # type: ignore[attr-defined]
            found[reason] = found.get(reason, 0) + count
    assert found == counts


def test_shuffled_they_are_the_same_rows(case: tuple[ShardedDataSource, dict[str, int]]) -> None:
    source, counts = case
    stage = skipping(source).shuffle(3, window_rows=16)
    key = json.dumps
    assert sorted(map(key, stage)) == sorted(map(key, skipping(source)))
    assert stage.reports()[0].counts == counts  # type: ignore[attr-defined]
    stream = stage.rows()
    head = list(islice(stream, 9))
    assert head + list(skipping(source).shuffle(3, window_rows=16).rows(stream.state())) == list(stage)


def test_the_budget_is_a_share_or_a_number() -> None:
    rows = [{"n": i} if i % 100 else {"m": i} for i in range(1, 3001)]
    source = MemoryShardedSource(rows).map(lambda row: {"n": row["n"]})
    assert len(list(source.on_bad_rows("skip"))) == 2970  # 1 %
    assert len(list(source.on_bad_rows("skip", budget=30))) == 2970
    with pytest.raises(
        DataQualityError, match=r"30 of 3000 rows are bad .30 missing_column.; the budget allows 29 rows"
    ):
        list(source.on_bad_rows("skip", budget=29))
    stream = source.on_bad_rows("skip", budget=0.005).rows()
    with pytest.raises(DataQualityError, match=r"0\.50%"):
        list(stream)
    with pytest.raises(DataQualityError):  # asked again, it does not seem to end
        next(stream)
    few = MemoryShardedSource([{"n": 1}, {}]).map(lambda row: {"n": row["n"]})
    assert list(few.on_bad_rows("skip")) == [{"n": 1}]  # two rows say nothing about a share


def test_a_row_of_50_mb_is_bad_unless_it_is_allowed(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"id": 0}) + "\n" + json.dumps({"id": 1, "text": "x" * 50_000_000}) + '\n{"id": 2}\n')
    source = JsonShardedSource(file)
    stream = source.rows()
    assert next(stream) == {"id": 0}
    with pytest.raises(DataFormatError, match=r"row: 1\n  found: 50,000,\d+ bytes, .*\n  expected: at most 33,554,432"):
        next(stream)
    assert [row["id"] for row in source.on_bad_rows("skip")] == [0, 2]
    quarantine = tmp_path / "bad.jsonl"
    assert [row["id"] for row in source.on_bad_rows("quarantine", file=str(quarantine))] == [0, 2]
    assert quarantine.stat().st_size < 100_000  # the row's beginning, not the row
    assert entries(quarantine)[0]["content_is_cut"]
    allowed = source.on_bad_rows("raise", largest_row_bytes=1 << 26)
    assert [row["id"] for row in allowed] == [0, 1, 2]


def test_a_file_that_goes_while_it_is_read_costs_its_rest(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"{number}.jsonl").write_text("".join(f'{{"id": {number * 20 + i}}}\n' for i in range(20)))
    source = JsonShardedSource(tmp_path)
    stream = source.on_bad_rows("skip").rows()
    assert next(stream) == {"id": 0}
    state = stream.state()
    (tmp_path / "0.jsonl").unlink()
    resumed = source.on_bad_rows("skip", budget=5)
    assert [row["id"] for row in resumed.rows(state)] == list(range(20, 40))
    with pytest.raises(FileNotFoundError):
        list(source.rows())


def test_a_refusal_is_no_bad_row() -> None:
    class Refused(MemoryShardedSource):
        def with_care(self, care):  # as a source that knows nothing of bad rows
            return ShardedDataSource.with_care(self, care)

        def rows(self, state=None):
            raise DataAccessError("No such luck.")

    with pytest.raises(DataAccessError):
        list(Refused([{"a": 1}]).on_bad_rows("skip"))


def test_a_streaming_data_set_gives_the_rows_before_its_failure(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(f'{{"id": {i}}}\n' for i in range(5)))
    (tmp_path / "b.jsonl").write_text('{"id": 5}\n{"id": broken\n')
    files = [str(tmp_path / name) for name in ("a.jsonl", "b.jsonl")]
    stream = datasets.load_dataset("json", data_files=files, split="train", streaming=True)
    source = HFDatasetShardedSource(stream, name="mine")
    rows = source.rows()
    assert [next(rows)["id"] for _ in range(5)] == list(range(5))
    for _ in range(2):  # and does not seem to end there
        with pytest.raises(DataFormatError, match=r"cannot read on.*\n  file: mine:0"):
            for _ in rows:
                pass
    skipped = source.on_bad_rows("skip")
    assert [row["id"] for row in skipped][:5] == list(range(5))
    state_stream = skipped.rows()
    for _ in state_stream:
        pass
    assert list(skipped.rows(state_stream.state())) == []


def test_a_transform_that_fails_only_on_many_rows_is_not_a_bad_row() -> None:
    class OnlyAlone(BatchTransform):
        def transform_batch(self, rows):
            if len(rows) > 1:
                raise ValueError("too many at once")
            return [[row] for row in rows]

    with pytest.raises(ValueError, match="too many at once"):
        list(MemoryShardedSource([{"a": 1}, {"a": 2}]).transform(OnlyAlone()).on_bad_rows("skip"))


def test_counts_of_a_transform_do_not_double_where_a_batch_is_tried_again() -> None:
    transform = Numbered()
    rows: list[Row] = [{"id": i if i % 10 else None} for i in range(100)]
    list(MemoryShardedSource(rows).transform(transform).on_bad_rows("skip", budget=1.0))
    assert transform.report.rows == 90


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "ignore"}, "one of raise, skip, quarantine"),
        ({"policy": "quarantine"}, "a file is needed"),
        ({"policy": "skip", "file": "x"}, "for nothing else"),
        ({"policy": "skip", "budget": -1}, "budget"),
        ({"policy": "skip", "budget": 1.5}, "budget"),
        ({"policy": "skip", "largest_row_bytes": 0}, "must be positive"),
    ],
)
def test_policies_that_make_no_sense_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        MemoryShardedSource([]).on_bad_rows(**options)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="only a local disk"):
        MemoryShardedSource([]).on_bad_rows(BadRows(policy="quarantine", file="s3://bucket/bad.jsonl"))


@pytest.mark.parametrize(
    "content",
    [
        b'{"text": "a"}\n{"text": "no line end"}',
        b'{"text": "a"}\n{"text": "cut o',
        b'{"file": "a.jsonl", "text": "b"}',
        b"no JSON at all",
        b'{"file": "a", "row": 1, "reason": "r", "error": "e", "content": null}\n{"text": "a users"}\n',
        b"\xff\xfe binary\n",
        b"\n\n[1]",
    ],
)
def test_a_file_of_other_data_is_refused_as_quarantine_and_left_as_it_is(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"holds other data(.|\n)*mend: name a file of its own"):
        MemoryShardedSource([{"a": 1}]).on_bad_rows("quarantine", file=str(file))
    assert file.read_bytes() == content
    with pytest.raises(DataError, match="cannot be read"):
        MemoryShardedSource([{"a": 1}]).on_bad_rows("quarantine", file=str(tmp_path))


def test_a_quarantine_without_its_last_line_end_keeps_its_last_entry(tmp_path: Path) -> None:
    source = MemoryShardedSource([{"a": 1}, {"b": 2}]).map(lambda row: {"a": row["a"]})
    file = tmp_path / "bad.jsonl"
    list(source.on_bad_rows("quarantine", file=str(file), budget=1.0))
    before = file.read_bytes()
    file.write_bytes(before.rstrip(b"\n"))
    list(source.on_bad_rows("quarantine", file=str(file), budget=1.0))
    assert file.read_bytes() == before


def test_a_first_line_that_holds_an_array_is_one_bad_line(tmp_path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('[]\n{"id": 1}\n{"id": 2}\n')
    assert [row["id"] for row in as_sharded_source(file).on_bad_rows("skip", budget=1)] == [1, 2]
    with pytest.raises(DataError, match=r"a JSON list: '\[\]'"):
        list(as_sharded_source(file))
    file.write_text('[{"id": 1}, {"id": 2}]\n')
    assert [row["id"] for row in as_sharded_source(file)] == [1, 2]


@settings(max_examples=40, deadline=None)
@given(
    bad=st.sets(st.integers(0, 59), max_size=20),
    k=st.integers(0, 60),
    hosts=st.sampled_from([1, 2, 3, 8]),
    seed=st.none() | st.integers(0, 5),
    data=st.data(),
)
def test_wherever_the_bad_rows_are(bad, k, hosts, seed, data, tmp_path_factory) -> None:
    file = tmp_path_factory.mktemp("lines") / "a.jsonl"
    broken = data.draw(st.lists(st.sampled_from(['{"id": ', "[]", "{} {}", '{"no": 1}']), min_size=60, max_size=60))
    file.write_text("".join(f"{broken[i] if i in bad else json.dumps({'id': i})}\n" for i in range(60)))

    def build() -> ShardedDataSource:
        source = as_sharded_source(file).map(lambda row: {"id": row["id"]}).on_bad_rows("skip", budget=60)
        return source if seed is None else source.shuffle(seed, window_rows=8)

    rows = list(build())
    assert sorted(row["id"] for row in rows) == sorted(set(range(60)) - bad)
    stream = build().rows()
    head = list(islice(stream, k))
    assert head + list(build().rows(json.loads(json.dumps(stream.state())))) == rows
    shares = [list(build().shard(index, hosts, window=5)) for index in range(hosts)]
    assert sorted(row["id"] for share in shares for row in share) == sorted(row["id"] for row in rows)


def test_a_full_disk_ends_a_quarantine_in_words_and_the_next_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\nbroken\n{"a": 2}\n')
    file, write = tmp_path / "bad.jsonl", os.write
    source = JsonShardedSource(str(tmp_path / "rows.jsonl")).on_bad_rows("quarantine", file=str(file), budget=1.0)
    monkeypatch.setattr(os, "write", lambda handle, content: write(handle, content[: len(content) // 2]))
    with pytest.raises(DataError, match=r"cannot be written to: .*No space left"):
        list(source.rows())
    monkeypatch.undo()
    again = JsonShardedSource(str(tmp_path / "rows.jsonl")).on_bad_rows("quarantine", file=str(file), budget=1.0)
    assert [row["a"] for row in again.rows()] == [1, 2]
    assert [json.loads(line)["row"] for line in file.read_text().splitlines()] == [1]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt"])
def test_what_a_bad_line_costs_does_not_grow_with_the_lines_around_it(name, tmp_path, monkeypatch) -> None:
    begins: list[int] = []
    starts = LineRun.starts
    monkeypatch.setattr(LineRun, "starts", lambda run: begins.append(1) or starts(run))
    good = {"a.jsonl": b'{"a": 1}\n', "a.csv": b"1,2\n", "a.txt": b"text\n"}[name]
    bad = {"a.jsonl": b'1,"\n', "a.csv": b"1,2,3\n", "a.txt": b"\xff\n"}[name]
    (tmp_path / name).write_bytes((b"a,b\n" if name == "a.csv" else b"") + good + bad * 3_000)
    source = as_sharded_source(str(tmp_path / name)).on_bad_rows("skip", budget=1.0)
    rows = source.rows()
    assert len([rows.state() for _ in rows]) == 1
    assert len(begins) < 30, "once for each stretch of lines, not for each line"
