"""The same units of work by this process and by others: the same bytes, and a dead worker costs a group of rows."""

import importlib
import json
import logging
import sys

import pytest
from easydata_sources import DataError, JsonShardedSource, MemoryShardedSource
from easydata_tokenize import (
    InProcess,
    PackTransform,
    ProcessPool,
    TokenizeTransform,
    WorkerError,
    load_tokenizer,
    open_saved,
    save_dataset,
    tokenize_and_save,
)

ROWS = [{"id": n, "text": f"row {n} " + "word " * (n % 7)} for n in range(900)]


@pytest.fixture(scope="module")
def tokenizer(golden):
    return load_tokenizer(golden / "tokenizer")


@pytest.fixture
def files(tmp_path):
    """Three files of rows."""
    folder = tmp_path / "rows"
    folder.mkdir()
    for number in range(3):
        lines = (json.dumps(row) + "\n" for row in ROWS[number * 300 : (number + 1) * 300])
        (folder / f"{number}.jsonl").write_text("".join(lines))
    return folder


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_pool_writes_what_one_process_does(tmp_path, files, tokenizer):
    alone = tokenize_and_save(files, tokenizer, tmp_path / "alone", max_length=10, row_group_size=50)
    pool = tokenize_and_save(files, tokenizer, tmp_path / "pool", max_length=10, row_group_size=50, num_proc=2)
    assert files_of(tmp_path / "pool") == files_of(tmp_path / "alone")
    assert sorted(path.name for path in (tmp_path / "pool").glob("*.parquet")) == [
        "shard-00000-00000.parquet",
        "shard-00001-00000.parquet",
        "shard-00002-00000.parquet",
    ]
    assert pool.counts == alone.counts
    assert pool.counts["truncated"] > 100


def test_counts_are_the_callers_whoever_counted(tmp_path, files, tokenizer):
    transform = TokenizeTransform(tokenizer, 10)
    transform.report.saw(5)
    source = JsonShardedSource(str(files / "*.jsonl")).transform(transform)
    stats = save_dataset(source, tmp_path / "set", num_proc=2)
    assert (transform.report.rows, transform.report.counts) == (905, dict(stats.counts))
    save_dataset(source, tmp_path / "set")  # finished already: what was counted then
    assert transform.report.rows == 1805


def test_files_are_units_and_numbers_of_shards_are_kept(tmp_path, files):
    source = JsonShardedSource(str(files / "*.jsonl"))
    save_dataset(source, tmp_path / "two", num_shards=2)
    rows = [
        info.num_rows
        for info in map(open_saved(tmp_path / "two").get_shard_info, open_saved(tmp_path / "two").shard_names)
    ]
    assert rows == [450, 450]
    assert list(open_saved(tmp_path / "two").rows()) == ROWS
    save_dataset(source.filter(lambda row: row["id"] % 2 == 0), tmp_path / "half", num_shards=4)
    assert [row["id"] for row in open_saved(tmp_path / "half").rows()] == list(range(0, 900, 2))
    with pytest.raises(DataError, match="known length"):
        save_dataset(MemoryShardedSource(ROWS).filter(bool).limit(5), tmp_path / "unknown", num_shards=2)


def test_packing_sees_windows_that_reach_over_files(tmp_path, files, tokenizer):
    source = JsonShardedSource(str(files / "*.jsonl")).transform(TokenizeTransform(tokenizer))
    packed = source.transform(PackTransform(64, window=512))
    save_dataset(packed, tmp_path / "packed")
    saved = [row["input_ids"] for row in open_saved(tmp_path / "packed").rows()]
    assert saved == [row["input_ids"].tolist() for row in packed.rows()]
    save_dataset(packed, tmp_path / "parts", num_shards=2)
    assert [row["input_ids"] for row in open_saved(tmp_path / "parts").rows()] == saved


# A module of its own, since other processes must be able to import it.
FRAGILE = '''
import os, signal

class Fragile:
    """Kills its process, or fails, at row 470, as often as there are files `death-…` to remove."""

    def __init__(self, folder, deaths, error=None):
        self.folder, self.error = folder, error
        for number in range(deaths):
            (folder / f"death-{number}").touch()

    def __call__(self, row):
        with (self.folder / "seen").open("a") as seen:
            seen.write(f"{row['id']}\\n")
        if row["id"] == 470:
            for path in self.folder.glob("death-*"):
                path.unlink()
                if self.error is not None:
                    raise self.error("row 470 is the end")
                os.kill(os.getpid(), signal.SIGKILL)
        return row
'''


@pytest.fixture
def fragile(tmp_path, monkeypatch):
    """Return a function that makes a transform which fails at row 470 so many times."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "fragile_rows.py").write_text(FRAGILE)
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    monkeypatch.delitem(sys.modules, "fragile_rows", raising=False)
    module = importlib.import_module("fragile_rows")
    return lambda deaths, error=None: module.Fragile(tmp_path, deaths, error)


def test_a_worker_killed_in_a_shard_costs_its_last_group_of_rows(tmp_path, files, fragile, caplog):
    source = JsonShardedSource(str(files / "*.jsonl"))
    save_dataset(source, tmp_path / "whole", row_group_size=20)
    with caplog.at_level(logging.WARNING):
        save_dataset(source.transform(fragile(2)), tmp_path / "killed", row_group_size=20, num_proc=2)
    assert {name: content for name, content in files_of(tmp_path / "killed").items() if name != "_manifest.json"} == {
        name: content for name, content in files_of(tmp_path / "whole").items() if name != "_manifest.json"
    }
    again = sorted(map(int, (tmp_path / "seen").read_text().split()))
    twice = {row for row in again if again.count(row) > 1}
    assert twice == set(range(460, 471))  # of the killed unit's rows only those of the group it was at
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "shard-00001 of" in caplog.text
    assert "which has 0 shards and 8 groups of rows, failed (worker" in caplog.text


def test_workers_that_die_without_getting_on_are_given_up(tmp_path, files, fragile):
    source = JsonShardedSource(str(files / "*.jsonl")).transform(fragile(9))
    with pytest.raises(
        WorkerError, match=r"failed 2 times without getting on\.\n  last: worker \d+ died, exit code -9"
    ):
        save_dataset(source, tmp_path / "killed", row_group_size=20, executor=ProcessPool(1, max_retries=1))
    for path in tmp_path.glob("death-*"):
        path.unlink()
    save_dataset(source, tmp_path / "killed", row_group_size=20)
    assert list(open_saved(tmp_path / "killed").rows()) == ROWS


@pytest.mark.parametrize("executor", [InProcess(max_retries=1), ProcessPool(1, max_retries=1)], ids=["here", "pool"])
def test_storage_that_fails_is_tried_again_and_bad_rows_are_not(tmp_path, files, fragile, executor):
    source = JsonShardedSource(str(files / "*.jsonl"))
    save_dataset(source.transform(fragile(1, OSError)), tmp_path / "tried", executor=executor)
    assert len(open_saved(tmp_path / "tried")) == 900
    with pytest.raises(WorkerError, match="last: row 470 is the end"):
        save_dataset(source.transform(fragile(5, OSError)), tmp_path / "lost", executor=executor)
    deaths = len(list(tmp_path.glob("death-*")))
    with pytest.raises(DataError, match="row 470 is the end"):
        save_dataset(source.transform(fragile(0, DataError)), tmp_path / "bad", executor=executor)
    assert len(list(tmp_path.glob("death-*"))) == deaths - 1  # one try and no other
    with pytest.raises(DataError, match="at least 0"):
        InProcess(max_retries=-1)


def test_what_cannot_be_sent_to_a_process_is_refused(tmp_path, files):
    source = JsonShardedSource(str(files / "*.jsonl")).transform(lambda row: row)
    with pytest.raises(DataError, match="cannot be sent to another process"):
        save_dataset(source, tmp_path / "set", num_proc=1)
    with pytest.raises(DataError, match="Only one of"):
        save_dataset(source, tmp_path / "set", num_proc=1, executor=InProcess())
    with pytest.raises(DataError, match="at least 1"):
        ProcessPool(0)
