"""A real Ray cluster of two machines' worth of workers, on this machine: the same bytes as one process."""

import json
import logging
import os
import signal
import sys
import warnings
from pathlib import Path

import pytest
from easydata_sources import DataError, JsonShardedSource
from easydata_tokenize import RayExecutor, WorkerError, load_tokenizer, open_saved, save_dataset, tokenize_and_save

GOLDEN = Path(__file__).parents[1] / "golden"
ROWS = [{"id": n, "text": f"row {n} " + "word " * (n % 7)} for n in range(900)]


@pytest.fixture(scope="module")
def cluster():
    """Two nodes with one core each; workers find this file's classes by value."""
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"  # the coming behaviour, which Ray warns of otherwise
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own, of its own
        import ray
        from ray import cloudpickle
        from ray.cluster_utils import Cluster

        cloudpickle.register_pickle_by_value(sys.modules[__name__])
        cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False},
        )
        cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
        ray.init(address=cluster.address, log_to_driver=False)
        yield ray
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "rows"
    folder.mkdir()
    for number in range(3):
        lines = (json.dumps(row) + "\n" for row in ROWS[number * 300 : (number + 1) * 300])
        (folder / f"{number}.jsonl").write_text("".join(lines))
    return folder


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_workers_write_what_one_process_does(tmp_path, files, cluster):
    assert len([node for node in cluster.nodes() if node["Alive"]]) == 2
    tokenizer = load_tokenizer(GOLDEN / "tokenizer")
    alone = tokenize_and_save(files, tokenizer, tmp_path / "alone", max_length=10, row_group_size=50)
    both = tokenize_and_save(
        files, tokenizer, tmp_path / "both", max_length=10, row_group_size=50, executor=RayExecutor(2)
    )
    assert files_of(tmp_path / "both") == files_of(tmp_path / "alone")
    assert both.counts == alone.counts
    assert both.counts["truncated"] > 100
    assert len(open_saved(tmp_path / "both", verify=True)) == 900


class Fragile:
    """Notes who works, and kills its worker, or fails, at row 470 as often as there are files `death-…` to remove."""

    def __init__(self, folder, deaths, error=None):
        self.folder, self.error = folder, error
        for number in range(deaths):
            (folder / f"death-{number}").touch()

    def __call__(self, row):
        with (self.folder / "seen").open("a") as seen:
            seen.write(f"{row['id']} {os.getpid()}\n")
        if row["id"] == 470:
            for path in self.folder.glob("death-*"):
                path.unlink()
                if self.error is not None:
                    raise self.error("row 470 is the end")
                os.kill(os.getpid(), signal.SIGKILL)
        return row


def test_a_worker_killed_in_a_shard_costs_its_last_group_of_rows(tmp_path, files, cluster, caplog):
    source = JsonShardedSource(str(files / "*.jsonl"))
    save_dataset(source, tmp_path / "whole", row_group_size=20)
    with caplog.at_level(logging.WARNING, "easydata_tokenize"):
        killed = source.transform(Fragile(tmp_path, 1))
        save_dataset(killed, tmp_path / "killed", row_group_size=20, executor=RayExecutor())
    shards = [path.name for path in (tmp_path / "whole").glob("*.parquet")]
    assert len(shards) == 3
    for name in shards:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    seen = [tuple(map(int, line.split())) for line in (tmp_path / "seen").read_text().splitlines()]
    rows = [row for row, _ in seen]
    assert {row for row in rows if rows.count(row) > 1} == set(range(460, 471))
    assert len({process for _, process in seen}) > 1
    assert "shard-00001 of" in caplog.text
    assert "0 shards and 8 groups of rows, failed (WorkerCrashedError" in caplog.text


def test_bad_rows_are_told_of_at_once_and_dying_workers_given_up(tmp_path, files, cluster):
    source = JsonShardedSource(str(files / "*.jsonl"))
    with pytest.raises(DataError, match="row 470 is the end"):
        save_dataset(source.transform(Fragile(tmp_path, 1, DataError)), tmp_path / "bad", executor=RayExecutor())
    dying, executor = source.transform(Fragile(tmp_path, 9)), RayExecutor(1, max_retries=1)
    with pytest.raises(WorkerError, match="failed 2 times without getting on"):
        save_dataset(dying, tmp_path / "dying", row_group_size=20, executor=executor)
