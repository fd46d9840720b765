"""Data sets of the Hub, by `hf://` addresses and by name, from a stand-in for the Hub on this machine."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

HERE = Path(__file__).parent
CHATS = [{"id": i, "text": f"chat {i}"} for i in range(300)]
PAIRS = [{"id": i, "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(40)]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    root = tmp_path_factory.mktemp("hub")
    chats, pairs = root / "datasets" / "someone" / "chats", root / "datasets" / "someone" / "pairs"
    (chats / "data").mkdir(parents=True)
    pairs.mkdir(parents=True)
    for number in range(2):
        table = pa.Table.from_pylist(CHATS[150 * number : 150 * (number + 1)])
        pq.write_table(table, chats / "data" / f"train-{number}.parquet", row_group_size=50)
    pq.write_table(pa.Table.from_pylist(CHATS[:7]), chats / "data" / "test-0.parquet")
    splits = [{"split": name, "path": f"data/{name}-*.parquet"} for name in ("train", "test")]
    configs = {"configs": [{"config_name": "default", "data_files": splits}]}
    (chats / "README.md").write_text(f"---\n{json.dumps(configs)}\n---\n")
    (pairs / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    specification = importlib.util.spec_from_file_location("hub_stand_in", HERE.parent / "hub_stand_in.py")
    stand_in = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(stand_in)
    with stand_in.hub(root) as address:
        yield address


@pytest.fixture
def read(hub, tmp_path):
    """Run a script with `source` made by an expression, in a process whose Hub is the stand-in (read at import)."""

    def read(expression, then="print(json.dumps(list(source.rows())))"):
        script = f"import json\nfrom easydata_sources import *\nsource = {expression}\n{then}"
        environment = os.environ | {
            "HF_ENDPOINT": hub,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        environment.pop("HF_TOKEN", None)
        command = [sys.executable, "-c", script]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)

    return read


@pytest.mark.parametrize(
    ("expression", "rows"),
    [
        ("as_sharded_source('hf://datasets/someone/chats/data/train-*.parquet')", CHATS),
        ("ParquetShardedSource('hf://datasets/someone/chats/data/test-0.parquet', columns=['id'])", None),
        ("as_sharded_source('hf://datasets/someone/pairs')", PAIRS),
        ("HuggingFaceShardedSource('someone/chats')", CHATS),
        ("HuggingFaceShardedSource('someone/chats', 'test', streaming=False)", CHATS[:7]),
        ("HuggingFaceShardedSource('someone/pairs', streaming=False)", PAIRS),
        ("HuggingFaceShardedSource('someone/pairs')", PAIRS),
    ],
)
def test_rows_arrive(expression, rows, read):
    done = read(expression)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == (rows or [{"id": row["id"]} for row in CHATS[:7]])


@pytest.mark.parametrize(
    "expression",
    [
        "as_sharded_source('hf://datasets/someone/chats/data/train-*.parquet')",
        "HuggingFaceShardedSource('someone/chats')",
        "HuggingFaceShardedSource('someone/chats', streaming=False).shuffle(3)",
    ],
)
def test_streams_resume_and_are_shared_out(expression, read):
    then = """
whole = list(source.rows())
stream = source.rows()
head = [next(stream) for _ in range(170)]
assert head + list(source.rows(json.loads(json.dumps(stream.state())))) == whole and len(whole) == 300
shares = [list(source.shard(host, 3, window=16)) for host in range(3)]
assert sorted(row["id"] for share in shares for row in share) == list(range(300))
print("done")
"""
    done = read(expression, then)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "done"


@pytest.mark.parametrize(
    ("expression", "error", "words"),
    [
        (
            "as_sharded_source('hf://datasets/someone/nothing/*.parquet')",
            "DataFilesNotFoundError",
            "hf://datasets/someone",
        ),
        ("as_sharded_source('hf://datasets/someone/chats/none.parquet')", "DataFilesNotFoundError", "none.parquet"),
        ("HuggingFaceShardedSource('someone/nothing')", "DataFilesNotFoundError", "'someone/nothing'"),
        ("HuggingFaceShardedSource('someone/chats', 'valid')", "DataError", "train"),
    ],
)
def test_what_is_not_there_is_named(expression, error, words, read):
    done = read(expression)
    assert done.returncode == 1
    assert f"easydata_sources.errors.{error}" in done.stderr, done.stderr
    last = done.stderr[done.stderr.rindex(f"easydata_sources.errors.{error}") :]
    assert words in last
    assert "mend:" in last
