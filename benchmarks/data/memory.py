"""Peak memory of reading, shuffling and mixing, for a data set and for one ten times its size."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from _figure import quick, show

READ = """
import os, sys, threading, psutil
from easydata_sources import {kind}
from easydata_mix import MixedShardedSource

peak, process, done = 0, psutil.Process(), threading.Event()

def watch():
    global peak
    while not done.wait(0.005):
        peak = max(peak, process.memory_info().rss)

source = {kind}(sys.argv[1])
source = {expression}
thread = threading.Thread(target=watch)
thread.start()
rows = sum(batch.num_rows for batch in source.batches(1024))
done.set()
thread.join()
print(rows, peak)
"""
WAYS = {
    "read": "source",
    "shuffled": "source.shuffle(1)",
    "mixed": "MixedShardedSource({'a': source, 'b': source}, [3, 1], stop='all_exhausted')",
}
KINDS = {"parquet": "ParquetShardedSource", "jsonl": "JsonShardedSource"}


def main() -> None:
    small = 20_000 if quick() else 200_000
    with tempfile.TemporaryDirectory() as folder:
        for extension, kind in KINDS.items():
            peaks: dict[str, float] = {}
            for rows in (small, 10 * small):
                path = Path(folder, f"{rows}.{extension}")
                write(path, rows)
                for way, expression in WAYS.items():
                    peak = peak_megabytes(path, READ.format(kind=kind, expression=expression))
                    name = f"{extension}, {way}, {path.stat().st_size / 1e6:,.0f} MB file"
                    show(
                        name, peak, "MB", limit=peaks.get(way), note="x of a tenth of the data" if way in peaks else ""
                    )
                    peaks.setdefault(way, peak)
                path.unlink()
    show("this process, for comparison", psutil.Process().memory_info().rss / 1e6, "MB")


def write(path: Path, rows: int) -> None:
    if path.suffix == ".jsonl":
        with path.open("w") as file:
            for number in range(rows):
                file.write(f'{{"n": {number}, "text": "{text(number)}"}}\n')
        return
    schema = pa.schema([("n", pa.int64()), ("text", pa.string())])
    with pq.ParquetWriter(path, schema, compression=None, use_dictionary=False) as writer:
        for start in range(0, rows, 10_000):
            numbers = range(start, min(start + 10_000, rows))
            writer.write_table(pa.table({"n": numbers, "text": list(map(text, numbers))}, schema=schema))


def text(number: int) -> str:
    return f"{number} " * 40


def peak_megabytes(path: Path, program: str) -> float:
    output = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    return int(output.stdout.split()[1]) / 1e6


if __name__ == "__main__":
    main()
