"""Files that are damaged, or not those that were listed: told by name, the same in order and shuffled, and no crash."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from easydata_sources import (
    ArrowShardedSource,
    CsvShardedSource,
    DataError,
    DataFormatError,
    JsonShardedSource,
    ParquetShardedSource,
    ShardedDataSource,
    TextShardedSource,
)

ROWS = 1200
TABLE = pa.table({"id": range(ROWS), "text": [f"text {i} " + "x" * (i % 40) for i in range(ROWS)]})


def arrow(path: Path, kind: Callable[..., object] = pa.ipc.new_file, **options: str) -> None:
    with kind(str(path), TABLE.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:  # type: ignore[attr-defined]
        writer.write_table(TABLE, max_chunksize=100)


def csv(path: Path) -> None:
    path.write_text("id,text\n" + "".join(f'{row["id"]},"{row["text"]}"\n' for row in TABLE.to_pylist()))


WRITE: dict[str, tuple[type[ShardedDataSource], Callable[[Path], object]]] = {
    "a.parquet": (
        ParquetShardedSource,
        lambda path: pq.write_table(TABLE, path, row_group_size=500, write_batch_size=64, data_page_size=500),
    ),
    "gzip.parquet": (
        ParquetShardedSource,
        lambda path: pq.write_table(TABLE, path, row_group_size=500, compression="gzip", use_dictionary=False),
    ),
    "a.arrow": (ArrowShardedSource, arrow),
    "lz4.arrow": (ArrowShardedSource, lambda path: arrow(path, compression="lz4")),
    "stream.arrow": (ArrowShardedSource, lambda path: arrow(path, pa.ipc.new_stream)),
    "a.jsonl": (JsonShardedSource, lambda path: path.write_text("\n".join(map(json.dumps, TABLE.to_pylist())))),
    "a.json": (JsonShardedSource, lambda path: path.write_text(json.dumps(TABLE.to_pylist()))),
    "a.csv": (CsvShardedSource, csv),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    for name, (_, write) in WRITE.items():
        write(folder / name)
    return folder


def texts(source: ShardedDataSource) -> list[str]:
    return sorted(json.dumps(row, default=str) for row in source)


@pytest.mark.parametrize("name", WRITE)
@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_file_gives_the_same_rows_in_order_and_shuffled(
    name: str, seed: int, sound: Path, tmp_path: Path
) -> None:
    data = bytearray((sound / name).read_bytes())
    chance = random.Random(seed)
    for _ in range(3):
        at = chance.randrange(len(data))
        data[at : at + 8] = chance.randbytes(8)
    (tmp_path / name).write_bytes(data)
    source = WRITE[name][0](tmp_path / name).on_bad_rows("skip", budget=1.0)  # type: ignore[call-arg]
    in_order = texts(source)
    assert texts(source.shuffle(1, window_rows=200)) == in_order
    assert sorted(row for index in range(3) for row in texts(source.shard(index, 3, window=50))) == in_order
    stream = source.rows()
    head = list(islice(stream, len(in_order) // 2))
    rest = list(source.rows(json.loads(json.dumps(stream.state()))))
    assert sorted(json.dumps(row, default=str) for row in head + rest) == in_order


def test_rows_in_front_of_a_damaged_page_are_given(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pages = {"compression": "gzip", "use_dictionary": False, "write_batch_size": 100, "data_page_size": 100}
    pq.write_table(TABLE, path, row_group_size=800, **pages)
    chunk = pq.ParquetFile(path).metadata.row_group(0).column(1)
    data = bytearray(path.read_bytes())
    middle = chunk.data_page_offset + chunk.total_compressed_size // 2
    data[middle : middle + 200] = bytes(200)
    path.write_bytes(data)
    source = ParquetShardedSource(path)
    ids: list[int] = []
    with pytest.raises(DataFormatError, match="cannot be read as Parquet") as caught:
        ids.extend(row["id"] for row in source)
    assert ids == list(range(len(ids)))
    assert caught.value.row == len(ids)
    assert 300 <= len(ids) < 500  # and not only whole slices
    skip = source.on_bad_rows("skip", budget=1.0)
    assert [row["id"] for row in skip] == ids + list(range(800, ROWS))
    assert skip.reports()[0].counts == {"damaged_file": 800 - len(ids)}  # type: ignore[attr-defined]


READ = """
import sys
from easydata_sources import ArrowShardedSource, DataError
for path in sys.argv[1:]:
    for limit in (1000, 1 << 25):
        for policy in ("raise", "skip"):
            source = ArrowShardedSource(path).on_bad_rows(policy, largest_row_bytes=limit, budget=1.0)
            for read in (source.rows, source.batches, source.shuffle(1).rows):
                try:
                    for _ in read():
                        pass
                except DataError:
                    pass
print("alive")
"""


def test_offsets_that_point_nowhere_end_no_process(tmp_path: Path) -> None:
    paths = []
    for number, offsets in enumerate(
        ([0, 5, 2**30, 12], [0, 2**31 - 2, 2**31 - 1, 12], [0, -5, 3, 12], [-(2**31), 5, 8, 12], [0, 12, 3, 12])
    ):
        sound = pa.array([0, 5, 8, 12], pa.int32()).buffers()
        column = pa.Array.from_buffers(pa.string(), 3, [*sound, pa.py_buffer(b"x" * 12)])
        nested = pa.Array.from_buffers(pa.list_(pa.int64()), 3, sound, children=[pa.array(range(12))])
        for name, values in {"text": column, "list": nested}.items():
            batch = pa.RecordBatch.from_arrays([pa.array([1, 2, 3]), values], names=["id", "cell"])
            paths.append(str(tmp_path / f"{name}{number}.arrow"))
            with pa.ipc.new_stream(paths[-1], batch.schema) as writer:
                writer.write_batch(batch)
            data = Path(paths[-1]).read_bytes()
            assert data.count(struct.pack("<4i", 0, 5, 8, 12)) == 1
            Path(paths[-1]).write_bytes(data.replace(struct.pack("<4i", 0, 5, 8, 12), struct.pack("<4i", *offsets)))
    done = subprocess.run(
        [sys.executable, "-c", READ, *paths], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr[-2000:]
    with pytest.raises(DataFormatError, match=r"row: \d\n  column: cell"):
        list(ArrowShardedSource(paths[0]))


CHANGES: dict[str, Callable[[Path], object]] = {
    "shortened": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: os.truncate(path, 0),
    "replaced": lambda path: replace(path, lambda data: data[: len(data) // 2] + data),
    "rewritten": lambda path: replace(path, lambda data: data.replace(b"text 1", b"text 2")),
}


def replace(path: Path, change: Callable[[bytes], bytes]) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(change(path.read_bytes()))
    new.replace(path)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", WRITE)
def test_a_file_that_changed_after_it_was_listed_is_said_to_have(
    name: str, change: str, sound: Path, tmp_path: Path
) -> None:
    shutil.copy(sound / name, tmp_path / name)
    source = WRITE[name][0](tmp_path / name)  # type: ignore[call-arg]
    after_reading = pickle.loads(pickle.dumps(source))
    len(after_reading)
    next(iter(after_reading.shuffle(1)))
    before = (tmp_path / name).read_bytes()
    CHANGES[change](tmp_path / name)
    if (tmp_path / name).read_bytes() == before:  # compressed: nothing to be found in it
        (tmp_path / name).write_bytes(before[:-1] + b"?")
    for listed in (source, after_reading):
        for read in (listed.rows, listed.batches, listed.shuffle(1).rows, listed.shuffle(1).batches):
            with pytest.raises(DataFormatError, match="changed after it was listed") as caught:
                list(read())
            assert caught.value.file == str(tmp_path / name)
        skip = listed.on_bad_rows("skip", budget=1.0)
        assert len(list(skip)) == 0
        assert skip.reports()[0].counts == {"file_changed": 1}  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", WRITE)
def test_a_file_that_is_shortened_while_it_is_read_does_not_seem_to_end(name: str, sound: Path, tmp_path: Path) -> None:
    shutil.copy(sound / name, tmp_path / name)
    source = WRITE[name][0](tmp_path / name)  # type: ignore[call-arg]
    stream, skip = source.rows(), source.on_bad_rows("skip", budget=1.0).rows()
    next(stream), next(skip)
    os.truncate(tmp_path / name, (tmp_path / name).stat().st_size // 3)
    with pytest.raises(DataFormatError, match="changed after it was listed"):
        list(stream)
    assert len(list(skip)) < ROWS


def test_a_file_that_was_only_touched_is_the_same(tmp_path: Path) -> None:
    csv(tmp_path / "a.csv")
    source = CsvShardedSource(tmp_path)
    os.utime(tmp_path / "a.csv", (0, 0))
    assert len(list(source)) == ROWS


def test_a_position_behind_the_end_of_a_file_that_shrank_is_refused(tmp_path: Path) -> None:
    for name, kind in {"a.jsonl": JsonShardedSource, "a.txt": TextShardedSource}.items():
        path = tmp_path / name
        path.write_text("".join(f'{{"id": {i}}}\n' for i in range(100)))
        stream = kind(path).rows()
        list(islice(stream, 80))
        state, end = stream.state(), None
        list(stream)
        end = stream.state()
        path.write_text("".join(f'{{"id": {i}}}\n' for i in range(50)))
        for position in (state, end):
            with pytest.raises(DataError, match=r"rows were given of .*, which has 50"):
                list(kind(path).rows(position))
