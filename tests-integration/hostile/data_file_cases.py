"""Data files made to do harm: damaged, compressed, endless, and served by servers that lie.

Each is read in every way that there is, in order and shuffled, raising and skipping; the rows that skipping leaves must
be the same in both orders.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import random
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from cases import ODD_VALUES, Case, mutations, short
from easydata_sources import DataError, as_sharded_source

MOST_ROWS = 100_000  # of one file, in each way of reading
LARGEST_ROW = 1 << 20
ROWS = [
    {
        "id": number,
        "text": f"row {number} é " + "x" * (number % 17),
        "messages": [{"role": "user", "content": f"hello {number}"}] * (number % 3),
        "score": number / 7,
    }
    for number in range(400)
]


def cases() -> Iterator[Case]:
    for name, (write, count) in SOUND.items():
        for number in range(count):
            yield Case(f"{name} damaged {number}", partial(_damaged, name, write, number), _read)
    for name, content in CRAFTED.items():
        yield Case(name, partial(_crafted, name, content), _read)
    for value in ODD_VALUES:
        yield Case(f"lines of {short(value)}", partial(_odd, value), _read)


def _read(folder: Path) -> None:
    read_in_every_way(as_sharded_source(folder))


def read_in_every_way(source) -> None:
    """Read a source in order, as batches, shuffled and shared out, raising and skipping.

    Raises:
        DataError: The first that reading raised.
        AssertionError: If what is left depends on the order.
    """
    strict = source.on_bad_rows("raise", largest_row_bytes=LARGEST_ROW)
    skip = source.on_bad_rows("skip", budget=1.0, largest_row_bytes=LARGEST_ROW)
    error = _first_error(strict.rows, strict.batches, strict.shuffle(1).rows, skip.shard(1, 2).rows)
    stream = skip.rows()
    left = Counter(map(repr, islice(stream, MOST_ROWS)))
    if sum(left.values()) < MOST_ROWS:
        assert Counter(map(repr, skip.shuffle(2, window_rows=64))) == left
        assert list(skip.rows(json.loads(json.dumps(stream.state())))) == []
    if error is not None:
        raise error


def read_in_order_and_shuffled(source) -> None:
    """Read a source whose content may change in between.

    Raises:
        DataError: The first that reading raised.
    """
    skip = source.on_bad_rows("skip", budget=1.0, largest_row_bytes=LARGEST_ROW)
    error = _first_error(source.rows, skip.rows, skip.shuffle(1).rows)
    if error is not None:
        raise error


def _first_error(*ways) -> DataError | None:
    errors: list[DataError] = []
    for way in ways:
        try:
            for _ in islice(way(), MOST_ROWS):
                pass
        except DataError as error:
            errors.append(error)
    return errors[0] if errors else None


def _damaged(name: str, write: Callable[[Path], object], number: int, folder: Path) -> None:
    path = folder / name
    write(path)
    path.write_bytes(mutations(path.read_bytes(), number + 1, seed=len(name))[number])


def _crafted(name: str, content: Callable[[Path], object] | bytes, folder: Path) -> None:
    path = folder / name.partition(" ")[0]
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)


def _odd(value: object, folder: Path) -> None:
    try:
        lines = [json.dumps(row) for row in (value, {"id": value}, {"messages": value}, {"id": 1})]
    except ValueError:
        lines = ['{"id": ' + "1" * 5000 + "}"]
    (folder / "a.jsonl").write_text("\n".join(lines))
    (folder / "b.json").write_text("[" + ",".join(lines) + "]")


# Sound files, to be damaged.


def lines() -> bytes:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode()


def table() -> pa.Table:
    return pa.Table.from_pylist(ROWS)


def _text(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def parquet(path: Path, **options) -> None:
    pq.write_table(table(), path, row_group_size=150, **options)


def arrow(path: Path, *, stream: bool = False, compression: str | None = None) -> None:
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(str(path), table().schema, options=options) as writer:
        writer.write_table(table(), max_chunksize=90)


def _odd_types(path: Path) -> None:
    """Columns of many types, dictionaries, maps, views and times among them."""
    count = 60
    texts = [f"text {number % 7}" for number in range(count)]
    columns = {
        "dictionary": pa.array(texts).dictionary_encode(),
        "map": pa.array([[("a", number)] for number in range(count)], pa.map_(pa.string(), pa.int32())),
        "at": pa.array(range(count), pa.timestamp("us", "Europe/Berlin")),
        "day": pa.array(range(count), pa.int32()).cast(pa.date32()),
        "decimal": pa.array(range(count), pa.decimal128(20, 3)),
        "fixed": pa.array([[1, 2]] * count, pa.list_(pa.int8(), 2)),
        "bytes": pa.array([text.encode() for text in texts], pa.binary()),
        "flag": pa.array([number % 2 == 0 for number in range(count)]),
        "nested": pa.array([{"a": [{"b": text}]} for text in texts]),
    }
    written = pa.table(columns)
    if path.name.endswith(".parquet"):
        pq.write_table(written, path, row_group_size=25)
        return
    more = written.append_column("view", pa.array(texts, pa.string_view())).append_column(
        "large", pa.array(texts, pa.large_string())
    )
    with pa.ipc.new_file(str(path), more.schema) as writer:
        writer.write_table(more, max_chunksize=25)


def _arrow_compressed(codec: str, data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as file:
        file.write(data)
    return sink.getvalue().to_pybytes()


def _csv() -> bytes:
    return ("id,text\n" + "".join(f'{row["id"]},"{row["text"]}, ""q""\nmore"\n' for row in ROWS)).encode()


SOUND: dict[str, tuple[Callable[[Path], object], int]] = {
    "a.parquet": (parquet, 50),
    "gzip.parquet": (partial(parquet, compression="gzip", use_dictionary=False), 30),
    "zstd.parquet": (partial(parquet, compression="zstd", data_page_version="2.0"), 30),
    "types.parquet": (_odd_types, 40),
    "a.arrow": (arrow, 60),
    "lz4.arrow": (partial(arrow, compression="lz4"), 30),
    "stream.arrow": (partial(arrow, stream=True), 40),
    "types.arrow": (_odd_types, 60),
    "a.jsonl": (lambda path: _text(path, lines()), 30),
    "a.json": (lambda path: _text(path, json.dumps(ROWS).encode()), 40),
    "documents.json": (lambda path: _text(path, "\n".join(json.dumps(row, indent=1) for row in ROWS).encode()), 20),
    "a.csv": (lambda path: _text(path, _csv()), 40),
    "a.txt": (lambda path: _text(path, lines()), 10),
    "a.jsonl.gz": (lambda path: _text(path, gzip.compress(lines())), 20),
    "a.json.bz2": (lambda path: _text(path, bz2.compress(json.dumps(ROWS).encode())), 15),
    "a.csv.xz": (lambda path: _text(path, lzma.compress(_csv())), 15),
    "a.jsonl.zst": (lambda path: _text(path, _arrow_compressed("zstd", lines())), 20),
    "a.json.lz4": (lambda path: _text(path, _arrow_compressed("lz4", json.dumps(ROWS).encode())), 15),
}


# Files that are made as they are on purpose.


def _repeated(piece: bytes, count: int, *, head: bytes = b"", tail: bytes = b"") -> Callable[[Path], None]:
    """A compressed file whose content is `head`, a piece very often, and `tail`."""

    def write(path: Path) -> None:
        opened = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}[path.suffix]
        with opened(path, "wb") as file:
            file.write(head)
            block = piece * (1 << 20)
            for _ in range(count):
                file.write(block)
            file.write(tail)

    return write


def _offsets(kind: pa.DataType, offsets: list[int]) -> Callable[[Path], None]:
    """An Arrow stream with a column of lists or text whose offsets are these."""

    def write(path: Path) -> None:
        sound = pa.array([0, 5, 8, 12], pa.int32()).buffers()
        if pa.types.is_string(kind):
            column = pa.Array.from_buffers(kind, 3, [*sound, pa.py_buffer(b"x" * 12)])
        else:
            column = pa.Array.from_buffers(kind, 3, sound, children=[pa.array(range(12))])
        batch = pa.RecordBatch.from_arrays([pa.array([1, 2, 3]), column], names=["id", "cell"])
        with pa.ipc.new_stream(str(path), batch.schema) as writer:
            writer.write_batch(batch)
        data = path.read_bytes()
        path.write_bytes(data.replace(struct.pack("<4i", 0, 5, 8, 12), struct.pack("<4i", *offsets)))

    return write


def _noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def _wide_parquet(path: Path) -> None:
    pq.write_table(pa.table({f"column {number}": [number] for number in range(2000)}), path)


def _long_parquet(path: Path) -> None:
    pq.write_table(pa.table({"n": pa.repeat(7, 2_000_000)}), path, row_group_size=2_000_000)


def _giant_parquet(path: Path) -> None:
    pq.write_table(pa.table({"text": ["x" * 60_000_000, "y"]}), path, compression="zstd")


def _surrogates(path: Path) -> None:
    path.write_bytes(b'{"a": "\xed\xa0\xbd"}\n{"a": "\\ud83d"}\n{"\\ud83d": 1}\n{"a": 1}')


_TEXTS: dict[str, bytes] = {
    "empty": b"",
    "zeros": bytes(10_000),
    "noise": _noise(20_000),
    "newlines": b"\n" * 200_000,
    "spaces": b" " * 3_000_000,
    "open brackets": b"[" * 1_000_000,
    "open braces": b'{"a":' * 300_000,
    "brackets": b"[" * 200_000 + b"]" * 200_000,
    "quotes": b'"' * 1_000_001,
    "commas": b"," * 1_000_000,
    "backslashes": b'"' + b"\\" * 1_000_001,
    "digits": b"1" * 1_000_000,
    "digits in an object": b'{"id": ' + b"1" * 1_000_000 + b"}",
    "commas in an array": b"[" + b"," * 100_000 + b"]",
    "empty objects": b"[" + b"{}," * 50_000 + b"{}]",
    "unclosed strings": b'[{"a": "' + b'x, {"a": ' * 50_000,
    "escapes": b'{"a": "' + b"\\u0000\\ud83d" * 50_000 + b'"}',
    "control characters": b'{"a": "\x1b[2J\x07"}\n\x1b[2J\x1b]0;title\x07\n{"\x1b[31m": 1}',
    "lines of quotes": b"a,b\n" + b'1,"\n' * 50_000,
    "lines of open quotes": b"a,b\n" + b'1,"x\n' * 50_000,
    "carriage returns": b"a,b\r" * 50_000,
    "names": b",".join(b"c%d" % number for number in range(20_000)) + b"\n1\n",
    "byte order marks": b"\xef\xbb\xbf" * 10_000,
    "two byte text": '{"id": 1}\n'.encode("utf-16") * 100,
    "a line of names twice": b'{"a": 1, "a": 2}\n' * 5_000,
    "html": b"<!doctype html><html><body>Sign in</body></html>",
    "git lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n",
}

CRAFTED: dict[str, Callable[[Path], object] | bytes] = {
    **{
        f"a{ending} of {name}": content
        for name, content in _TEXTS.items()
        for ending in (".jsonl", ".json", ".csv", ".txt", ".parquet", ".arrow", ".jsonl.gz", ".csv.zst")
    },
    "a.jsonl.gz of spaces without end": _repeated(b" ", 80, head=b'{"a": "', tail=b'"}\n{"id": 1}\n'),
    "a.jsonl.gz of a bracket without end": _repeated(b"[", 80),
    "a.json.gz of a string without end": _repeated(b"x", 80, head=b'[{"a": "', tail=b'"}]'),
    "a.json.gz of white space without end": _repeated(b" ", 80, head=b"[", tail=b"]"),
    "a.json.gz of brackets without end": _repeated(b"[", 40),
    "a.json.xz of an object without end": _repeated(b'"a":1,', 4, head=b"[{", tail=b'"b":2}]'),
    "a.csv.gz of a quote without end": _repeated(b"x", 80, head=b'a,b\n1,"'),
    "a.csv.bz2 of a line without end": _repeated(b"x,", 30, head=b"a,b\n"),
    "a.txt.gz of a line without end": _repeated(b"x", 80),
    "a.txt.xz of zeros without end": _repeated(b"\0", 80),
    "a.arrow of offsets behind the end": _offsets(pa.string(), [0, 5, 2**30, 12]),
    "a.arrow of offsets at the end of numbers": _offsets(pa.string(), [0, 2**31 - 2, 2**31 - 1, 12]),
    "a.arrow of offsets below zero": _offsets(pa.string(), [0, -5, 3, 12]),
    "a.arrow of offsets that go back": _offsets(pa.string(), [0, 12, 3, 12]),
    "a.arrow of list offsets behind the end": _offsets(pa.list_(pa.int64()), [0, 5, 2**30, 12]),
    "a.arrow of list offsets below zero": _offsets(pa.list_(pa.int64()), [-(2**31), 5, 8, 12]),
    "a.parquet of two thousand columns": _wide_parquet,
    "a.parquet of a row group of two million rows": _long_parquet,
    "a.parquet of a giant row": _giant_parquet,
    "a.jsonl of half surrogates": _surrogates,
}
