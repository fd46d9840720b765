"""Kill -9 in the middle of tokenizing: started again, it goes on behind the last group of rows."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from easydata_sources import MemoryShardedSource
from easydata_tokenize import load_tokenizer, open_saved, tokenize_and_save

KILLS = int(os.environ.get("EASYDATA_KILL_MOMENTS", "5"))
GROUP, BATCH = 64, 256  # rows that are written, and that are tokenized, at a time
ROWS = [{"id": n, "text": f"row {n} " + "word " * (n % 7)} for n in range(2000)]

# Imports once, then forks for every try, so that a try costs no second of imports.
KILLABLE = """
import os, sys, time
os.environ["TOKENIZERS_PARALLELISM"] = "false"
import fsspec.implementations.local, pyarrow.parquet
from easydata_sources import MemoryShardedSource
from easydata_tokenize import load_tokenizer, tokenize_and_save

tokenizer, shard_size = load_tokenizer(sys.argv[1]), sys.argv[2]
rows = [{"id": n, "text": f"row {n} " + "word " * (n % 7)} for n in range(2000)]
tokenize_and_save(rows[:9], tokenizer, "memory://warm")
for folder in sys.stdin:
    child = os.fork()
    if child == 0:
        folder = folder.strip()
        out = os.open(folder + ".log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        def logged(row):
            os.write(out, b".")
            return row
        source = MemoryShardedSource(rows).map(logged)
        tokenize_and_save(source, tokenizer, folder, row_group_size=64, max_shard_size=shard_size)
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def files_of(folder):
    """All files, and of the manifest all but what the set was made of: one of these functions writes a log."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    manifest = json.loads(files.pop("_manifest.json"))
    return {**files, "manifest": {key: value for key, value in manifest.items() if key != "identity"}}


@pytest.mark.parametrize("shard_size", ["1GB", "16KB"], ids=["one shard", "many shards"])
def test_killed_at_random_moments_it_ends_with_the_same_bytes(tmp_path, golden, shard_size):
    whole = MemoryShardedSource(ROWS).map(lambda row: row)
    tokenizer = load_tokenizer(golden / "tokenizer")
    tokenize_and_save(whole, tokenizer, tmp_path / "whole", row_group_size=GROUP, max_shard_size=shard_size)
    chance, killed, inside, target = np.random.default_rng(0), 0, 0, tmp_path / "0"
    arguments = [sys.executable, "-c", KILLABLE, str(golden / "tokenizer"), shard_size]
    lives = {target: 0}  # tries of each set

    def is_killing():
        """Until so many were killed, and so many of them where it hurts: on a busy machine the moment may be missed."""
        return killed < KILLS or (inside < KILLS // 2 and killed < 10 * KILLS)

    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as nursery:
        while is_killing() or lives[target]:
            read = rows_read(target)
            nursery.stdin.write(f"{target}\n")
            nursery.stdin.flush()
            child = int(nursery.stdout.readline())
            if is_killing():
                moment = read + chance.integers(0, 700)
                while rows_read(target) < moment and alive(child):
                    time.sleep(0.001)
                time.sleep(chance.uniform(0, 0.01))
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            done = int(nursery.stdout.readline()) == 0
            lives[target] += 1
            if not done:
                killed += 1
                inside += any(target.glob("_work/*/*/*.part"))
                continue
            # Each time at most the rows in the tokenizer's hands and a group that was not whole are read again.
            assert rows_read(target) <= len(ROWS) + (lives[target] - 1) * (BATCH + GROUP)
            assert files_of(target) == files_of(tmp_path / "whole")
            assert len(open_saved(target, verify=True)) == len(ROWS)
            target = tmp_path / str(len(lives))
            lives[target] = 0
        nursery.stdin.close()
    print(f"{killed} kills, {inside} of them with a shard half made, in {len(lives) - 1} sets")
    assert killed >= KILLS
    assert inside >= KILLS // 2


def rows_read(target):
    log = Path(f"{target}.log")
    return log.stat().st_size if log.exists() else 0


def alive(process):
    """Whether a process of the nursery still runs: one that has ended is a zombie until its parent hears of it."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
