"""Files in a bucket are read like local ones (found, read, resumed, shuffled, refused), and sets are written there.

The S3 server (moto) runs on this machine and checks every signature, so rows that arrive prove that the
credentials did too.
"""

import gzip
import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

import boto3
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from easydata_sources import DataAccessError, DataFilesNotFoundError, as_sharded_source
from easydata_tokenize import IncompleteSetError, open_saved, save_dataset

SETTING_UP = 3  # requests that the server takes from anyone: those that make the user
START_SECONDS = 60
SCREEN_LINES = 24
READ_EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}

TABLES = {
    "tables/a.parquet": [{"id": i, "text": f"first {i}"} for i in range(130)],
    "tables/b.parquet": [{"id": i, "text": f"second {i}"} for i in range(70)],
}
LINES = {
    # Keys that only some rows have: JSON rows must come back exactly, without nulls filled in.
    "lines/a.jsonl": [{"id": i} | ({"tool": {"name": "add", "by": i}} if i % 3 else {}) for i in range(90)],
    "lines/b.jsonl.gz": [{"id": i, "text": "ü" * (i % 7)} for i in range(60)],
    "lines/deep/c.jsonl": [{"id": i, "tags": [i, i + 1]} for i in range(50)],
}
ROWS = {
    "tables/*.parquet": [row for rows in TABLES.values() for row in rows],
    "lines/**/*.jsonl*": [row for rows in LINES.values() for row in rows],
}


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server and a user whom it lets in."""

    url: str
    key: str
    secret: str

    def options(self, **changes):
        return {"key": self.key, "secret": self.secret, "client_kwargs": {"endpoint_url": self.url}} | changes


@pytest.fixture(scope="module", autouse=True)
def only_this_machine():
    """Neither the owner's settings and credentials nor a proxy have a part in these tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            patch.setenv(name, os.devnull)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setenv("no_proxy", "127.0.0.1")
        yield


@pytest.fixture(scope="module")
def server(only_this_machine, tmp_path_factory):
    port, log = free_port(), tmp_path_factory.mktemp("server") / "log"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    environment = os.environ | {"INITIAL_NO_AUTH_ACTION_COUNT": str(SETTING_UP)}
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=output, env=environment) as process,
    ):
        try:
            wait_until_up(port, process, log)
            url = f"http://127.0.0.1:{port}"
            yield Server(url=url, **new_user(url))
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture(scope="module")
def bucket(server):
    """The files on the server; the bucket's address."""
    filesystem = fsspec.filesystem("s3", **server.options())
    filesystem.mkdir("chats")
    write_files(filesystem, "chats")
    return "s3://chats"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The same files on the disk."""
    path = tmp_path_factory.mktemp("chats")
    write_files(fsspec.filesystem("file", auto_mkdir=True), str(path))
    return path


@pytest.mark.parametrize("pattern", ROWS)
def test_a_glob_finds_the_files_and_rows_of_the_local_folder(pattern, server, bucket, folder):
    remote = as_sharded_source(f"{bucket}/{pattern}", storage_options=server.options())
    local = as_sharded_source(folder / pattern)
    relative = [os.path.relpath(name, folder).replace(os.sep, "/") for name in local.shard_names]
    assert list(remote.shard_names) == [f"{bucket}/{name}" for name in relative]
    assert list(remote.rows()) == list(local.rows()) == ROWS[pattern]
    assert len(remote) == len(local) == len(ROWS[pattern])
    assert list(remote.shuffle(seed=1).rows()) == list(local.shuffle(seed=1).rows())


@pytest.mark.parametrize("pattern", ROWS)
@pytest.mark.parametrize("k", [0, 1, 100, 130, 150, 200])
def test_a_restored_stream_goes_on_with_the_next_row(pattern, k, server, bucket):
    def source():
        return as_sharded_source(f"{bucket}/{pattern}", storage_options=server.options())

    stream = source().rows()
    assert [next(stream) for _ in range(k)] == ROWS[pattern][:k]
    state = json.loads(json.dumps(stream.state()))
    assert list(source().rows(state)) == ROWS[pattern][k:]


def test_the_environment_alone_is_enough(server, bucket):
    script = """
import json
import sys

from easydata_sources import as_sharded_source

for row in as_sharded_source(sys.argv[1]).rows():
    print(json.dumps(row))
"""
    environment = os.environ | {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": server.key,
        "AWS_SECRET_ACCESS_KEY": server.secret,
    }
    pattern = "lines/**/*.jsonl*"
    command = [sys.executable, "-c", script, f"{bucket}/{pattern}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == ROWS[pattern]


@pytest.mark.parametrize("path", ["missing-bucket/a.jsonl", "missing-bucket/*.jsonl", "chats/a.jsonl", "chats/*.csv"])
def test_what_is_not_there_is_named_on_one_screen(path, server, bucket):
    with pytest.raises(DataFilesNotFoundError) as refusal:
        as_sharded_source(f"s3://{path}", storage_options=server.options())
    text = str(refusal.value)
    assert f"s3://{path}" in text
    assert "mend:" in text
    assert len(text.splitlines()) <= SCREEN_LINES


@pytest.mark.parametrize("path", ["lines/a.jsonl", "lines", "lines/*.jsonl", "lines/**/*.jsonl"])
@pytest.mark.parametrize(
    "wrong", [{"secret": "not-the-secret"}, {"key": "AKIAOFNOBODYATALL000"}], ids=["secret", "key"]
)
def test_wrong_credentials_are_refused_with_the_reason(path, wrong, server, bucket):
    options = server.options(**wrong)
    with pytest.raises(DataAccessError, match=r"signature|Access Key Id") as refusal:
        as_sharded_source(f"{bucket}/{path}", storage_options=options)
    text = str(refusal.value)
    assert f"{bucket}/{path}" in text
    assert "mend:" in text
    assert options["secret"] not in text
    assert len(text.splitlines()) <= SCREEN_LINES


def test_a_set_written_to_a_bucket_is_the_set_on_the_disk_and_goes_on_after_a_failure(server, bucket, folder, tmp_path):
    source = as_sharded_source(str(folder / "tables/*.parquet"))
    url, options = "s3://chats/sets/one", server.options()

    def failing(row):
        if row["text"] == "second 60":
            raise RuntimeError("the machine is gone")
        return row

    settings = {"row_group_size": 25, "max_shard_size": "1GB"}
    with pytest.raises(RuntimeError, match="the machine is gone"):
        save_dataset(source.map(failing), url, output_storage_options=options, **settings)
    with pytest.raises(IncompleteSetError, match="130 rows in whole files so far"):
        open_saved(url, storage_options=options)
    read = []

    def noted(row):
        read.append(row["text"])
        return row

    there = save_dataset(source.map(noted), url, output_storage_options=options, assume_same=True, **settings)
    assert read == [f"second {i}" for i in range(50, 70)]  # behind the last group that was committed
    here = save_dataset(source, tmp_path / "one", **settings)
    filesystem = fsspec.filesystem("s3", **options)
    for path, address in zip(here.output_paths, there.output_paths, strict=True):
        with open(path, "rb") as file:
            assert filesystem.cat_file(address) == file.read()
    saved = open_saved(url, verify=True, storage_options=options)
    assert (len(saved), list(saved.rows())) == (200, ROWS["tables/*.parquet"])
    assert not [name for name in filesystem.find("chats/sets/one") if "_work" in name]
    filesystem.rm_file(there.output_paths[1])
    filesystem.invalidate_cache()
    with pytest.raises(IncompleteSetError, match="missing"):
        open_saved(url, storage_options=options)


def write_files(filesystem, folder):
    for name, rows in TABLES.items():
        with filesystem.open(f"{folder}/{name}", "wb") as file:
            pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=40)
    for name, rows in LINES.items():
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        with filesystem.open(f"{folder}/{name}", "wb") as file:
            file.write(gzip.compress(data) if name.endswith(".gz") else data)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_up(port, process, log):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"The server did not start:\n{log.read_text()}")


def new_user(url):
    """Make a user who may do anything with buckets, in `SETTING_UP` requests."""
    client = boto3.client(
        "iam", endpoint_url=url, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any"
    )
    client.create_user(UserName="reader")
    policy = json.dumps(READ_EVERYTHING)
    client.put_user_policy(UserName="reader", PolicyName="buckets", PolicyDocument=policy)
    made = client.create_access_key(UserName="reader")["AccessKey"]
    return {"key": made["AccessKeyId"], "secret": made["SecretAccessKey"]}
