"""Files of three clouds' stores are read like local ones: found, read in parts, resumed, shuffled, refused, missed.

The servers run on this machine: moto for S3, an emulator of Google Cloud Storage, and Microsoft's Azurite. Between them
and us stands a gate that counts bytes and can cut connections, so that broken reads are real ones.
"""

import gzip
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from easydata_sources import (
    DataAccessError,
    DataFilesNotFoundError,
    DataUnreachableError,
    JsonShardedSource,
    ParquetShardedSource,
    RetryPolicy,
    as_sharded_source,
)

# The clients' own word about how they send what these tests write.
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")

GOLDEN = Path(__file__).parents[1] / "golden"
START_SECONDS = 90
AZURE_NAME = "devstoreaccount1"
# Printed in its manual.
AZURE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # printed in its manual
)

TABLES = {
    "tables/a.parquet": [{"id": i, "text": f"first {i}"} for i in range(130)],
    "tables/b.parquet": [{"id": i, "text": f"second {i}"} for i in range(70)],
}
LINES = {
    "lines/a.jsonl": [{"id": i} | ({"tool": {"by": i}} if i % 3 else {}) for i in range(90)],
    "lines/b.jsonl.gz": [{"id": i, "text": "ü" * (i % 7)} for i in range(60)],
    "lines/deep/c.jsonl": [{"id": i, "tags": [i, i + 1]} for i in range(50)],
}
ROWS = {
    "tables/*.parquet": [row for rows in TABLES.values() for row in rows],
    "lines/**/*.jsonl*": [row for rows in LINES.values() for row in rows],
}
WIDE_ROWS = 4000


@dataclass(kw_only=True)
class Gate:
    """Passes bytes on to a server, and counts those that come back; `budget` bytes later it cuts the connection."""

    server: int
    port: int = 0
    bytes: int = 0
    budgets: list[int] = field(default_factory=list)
    cuts: int = 0

    @contextmanager
    def open(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
            threading.Thread(target=self._serve, args=(listener,), daemon=True).start()
            yield self

    def _serve(self, listener):
        while True:
            try:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", self.server))
            except OSError:
                return
            for pair in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _is_spent(self, size):
        if not self.budgets:
            return False
        self.budgets[0] -= size
        if self.budgets[0] >= 0:
            return False
        self.budgets.pop(0)
        self.cuts += 1
        return True

    def _pass_on(self, source, sink, back):
        try:
            while data := source.recv(1 << 14):
                if back:
                    self.bytes += len(data)
                    if self._is_spent(len(data)):
                        break
                sink.sendall(data)
        except OSError:
            pass  # the other side has hung up
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()  # each of the two threads closes the end it reads from


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """A server behind its gate, a bucket with the files, and how to ask for it."""

    protocol: str
    gate: Gate
    options_of: object
    """Port -> arguments of the file system."""
    environment: dict
    """What a machine has that needs no arguments."""

    @property
    def bucket(self):
        return f"{self.protocol}://chats"

    @property
    def options(self):
        return self.options_of(self.gate.port)


def s3(port, log):
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    return command, lambda port: {
        "key": "test",
        "secret": "test",
        "client_kwargs": {"endpoint_url": f"http://127.0.0.1:{port}"},
    }


def gs(port, log):
    command = [shutil.which("gcp-storage-emulator", path=os.path.dirname(sys.executable)), "start"]
    command += ["--host=127.0.0.1", f"--port={port}", "--in-memory", "--default-bucket=other"]
    return command, lambda port: {"project": "p", "token": "anon", "endpoint_url": f"http://127.0.0.1:{port}"}


def az(port, log):
    node = shutil.which("node", path=os.path.dirname(sys.executable)) or "node"
    command = [node, os.environ["AZURITE"], "--blobHost", "127.0.0.1", "--blobPort", str(port), "--silent"]
    command += ["--location", str(log.parent), "--skipApiVersionCheck", "--disableTelemetry"]
    return command, lambda port: {"connection_string": azure_connection(port)}


def azure_connection(port):
    return (
        f"DefaultEndpointsProtocol=http;AccountName={AZURE_NAME};AccountKey={AZURE_KEY};"
        f"BlobEndpoint=http://127.0.0.1:{port}/{AZURE_NAME};"
    )


def environment_of(protocol, port):
    return {
        "s3": {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        },
        "gs": {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}", "GOOGLE_CLOUD_PROJECT": "p"},
        "az": {"AZURE_STORAGE_CONNECTION_STRING": azure_connection(port)},
    }[protocol]


SERVERS = {"s3": s3, "gs": gs, "az": az}


@pytest.fixture(scope="module", autouse=True)
def only_this_machine():
    """Neither the owner's settings and credentials nor a proxy have a part in these tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "AZURE_"))]:
            patch.delenv(name)
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            patch.setenv(name, os.devnull)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("NO_GCE_CHECK", "true")
        # Google's client else asks the real Google, by another protocol, what kind of bucket it has.
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        for name in ("NO_PROXY", "no_proxy"):
            patch.setenv(name, "127.0.0.1")
        yield


@pytest.fixture(scope="module", params=SERVERS)
def cloud(request, only_this_machine, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    port = free_port()
    command, options_of = SERVERS[request.param](port, folder / "log")
    with ExitStack() as stack:
        run_server(stack, command, port, folder / "log")
        gate = stack.enter_context(Gate(server=port).open())
        cloud = Cloud(
            protocol=request.param,
            gate=gate,
            options_of=options_of,
            environment=environment_of(request.param, gate.port),
        )
        filesystem = fsspec.filesystem(request.param, **cloud.options)
        filesystem.mkdir("chats")
        write_files(filesystem, "chats")
        yield cloud


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The same files on the disk."""
    path = tmp_path_factory.mktemp("chats")
    write_files(fsspec.filesystem("file", auto_mkdir=True), str(path))
    return path


@pytest.mark.parametrize("pattern", ROWS)
def test_a_glob_finds_the_files_and_rows_of_the_local_folder(pattern, cloud, folder):
    remote = as_sharded_source(f"{cloud.bucket}/{pattern}", storage_options=cloud.options)
    local = as_sharded_source(folder / pattern)
    relative = [os.path.relpath(name, folder).replace(os.sep, "/") for name in local.shard_names]
    assert [name.split("chats/", 1)[1] for name in remote.shard_names] == relative
    assert all(name.startswith(f"{fsspec_name(cloud)}://chats/") for name in remote.shard_names)
    assert list(remote.rows()) == list(local.rows()) == ROWS[pattern]
    assert len(remote) == len(ROWS[pattern])
    assert list(remote.shuffle(seed=1).rows()) == list(local.shuffle(seed=1).rows())
    assert remote.get_shard_info(remote.shard_names[0]).byte_size == os.path.getsize(local.shard_names[0])


@pytest.mark.parametrize("pattern", ROWS)
@pytest.mark.parametrize("k", [0, 1, 100, 130, 150, 200])
def test_a_restored_stream_goes_on_with_the_next_row(pattern, k, cloud):
    def source():
        return as_sharded_source(f"{cloud.bucket}/{pattern}", storage_options=cloud.options)

    stream = source().rows()
    assert [next(stream) for _ in range(k)] == ROWS[pattern][:k]
    assert list(source().rows(json.loads(json.dumps(stream.state())))) == ROWS[pattern][k:]


def test_a_folder_and_one_file_are_found_too(cloud):
    for path in ("tables", "tables/", "tables/a.parquet"):
        source = ParquetShardedSource(f"{cloud.bucket}/{path}", cloud.options)
        assert source.num_shards() == (1 if path.endswith("parquet") else 2)
        assert next(source.rows()) == TABLES["tables/a.parquet"][0]


def test_the_environment_alone_is_enough(cloud):
    script = "import json, sys; from easydata_sources import as_sharded_source as s\n"
    script += "for row in s(sys.argv[1]).rows(): print(json.dumps(row))"
    pattern = "lines/**/*.jsonl*"
    command = [sys.executable, "-c", script, f"{cloud.bucket}/{pattern}"]
    environment = os.environ | cloud.environment
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == ROWS[pattern]


def test_only_the_wanted_columns_and_row_groups_are_fetched(cloud):
    path = f"{cloud.bucket}/wide/wide.parquet"
    options = cloud.options
    whole = bytes_for(cloud, lambda: list(ParquetShardedSource(path, options).batches(1000)))
    narrow = bytes_for(cloud, lambda: list(ParquetShardedSource(path, options, columns=["id"]).batches(1000)))
    assert whole > 6_000_000
    assert narrow < whole / 2
    last = ParquetShardedSource(path, options)
    start = {"shard": 0, "row": WIDE_ROWS - 5}
    rows = []
    seeking = bytes_for(cloud, lambda: rows.extend(last.rows(start)))
    assert [row["id"] for row in rows] == list(range(WIDE_ROWS - 5, WIDE_ROWS))
    assert seeking < whole / 2


@pytest.mark.parametrize("format_", ["parquet", "jsonl"])
def test_connections_that_break_off_cost_no_row(format_, cloud, caplog):
    kind = {"parquet": ParquetShardedSource, "jsonl": JsonShardedSource}[format_]
    fsspec.get_filesystem_class(cloud.protocol).clear_instance_cache()
    patient = RetryPolicy(attempts=10, first_delay=0.05, max_delay=0.2)
    source = kind(f"{cloud.bucket}/wide/wide.{format_}", cloud.options, retries=patient)
    before = cloud.gate.cuts
    cloud.gate.budgets[:] = [200_000, 1_500_000, 300_000]
    try:
        rows = [row["id"] for row in source.rows()]
    finally:
        cloud.gate.budgets.clear()
    assert rows == list(range(WIDE_ROWS))
    assert cloud.gate.cuts - before == 3


@pytest.mark.parametrize("path", ["missing-bucket/a.jsonl", "missing-bucket/*.jsonl", "chats/a.jsonl", "chats/*.csv"])
def test_what_is_not_there_is_named(path, cloud):
    with pytest.raises(DataFilesNotFoundError) as refusal:
        as_sharded_source(f"{cloud.protocol}://{path}", storage_options=cloud.options)
    assert f"{cloud.protocol}://{path}" in str(refusal.value)
    assert "mend:" in str(refusal.value)


def test_an_address_where_nobody_answers_is_named(cloud):
    options = cloud.options_of(free_port())
    if cloud.protocol == "gs":
        options |= {"requests_timeout": 1}
    with pytest.raises(DataUnreachableError, match=r"cannot be reached.*\n  mend: check the network") as refusal:
        as_sharded_source(f"{cloud.bucket}/tables/*.parquet", storage_options=options)
    assert AZURE_KEY not in str(refusal.value)


def test_missing_credentials_are_asked_for(cloud):
    options = {
        "s3": {"client_kwargs": {"endpoint_url": f"http://127.0.0.1:{cloud.gate.port}"}},
        "gs": {"token": "google_default"},
        "az": {},
    }[cloud.protocol]
    with pytest.raises(DataAccessError, match=r"needs credentials, and none were found(.|\n)*mend: storage_options="):
        as_sharded_source(f"{cloud.bucket}/tables/*.parquet", storage_options=options)


def test_a_trainer_takes_the_steps_that_it_takes_from_the_disk(cloud, tmp_path):
    """The guide's `ParquetShardedSource("gs://…", storage_options={"token": …})`, handed to a trainer."""
    import easydel as ed
    from easydata_tokenize import load_tokenizer

    rows = [json.loads(line) for line in (GOLDEN / "rows" / "prompt_completion.jsonl").read_text().splitlines()]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    store = fsspec.filesystem(cloud.protocol, **cloud.options)
    with store.open("chats/data/rows.parquet", "wb") as file:
        file.write((tmp_path / "rows.parquet").read_bytes())
    histories = []
    for source in (
        ParquetShardedSource(f"{cloud.bucket}/data/*.parquet", storage_options=cloud.options),
        ParquetShardedSource(str(tmp_path / "*.parquet")),
    ):
        trainer = ed.SFTTrainer(
            model=ed.AutoEasyDeLModelForCausalLM.from_pretrained(GOLDEN / "models" / "policy", dtype="float32"),
            train_dataset=source,
            processing_class=load_tokenizer(GOLDEN / "tokenizer"),
            arguments=ed.SFTConfig(max_training_steps=2, total_batch_size=4, length_buckets=[1024], log_steps=1),
        )
        histories.append([record["loss"] for record in trainer.train().history])
    assert histories[0] == histories[1]


def bytes_for(cloud, work):
    """Return the bytes that came from the server while working."""
    before = cloud.gate.bytes
    work()
    return cloud.gate.bytes - before


def fsspec_name(cloud):
    """The name under which the file system itself spells its addresses."""
    return {"az": "abfs"}.get(cloud.protocol, cloud.protocol)


def run_server(stack, command, port, log):
    output = stack.enter_context(log.open("wb"))
    process = stack.enter_context(subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True))
    stack.callback(stop, process)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"The server did not start:\n{log.read_text()}")


def stop(process):
    """End a server and what it started: `node` is a script that starts the real one."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def write_files(filesystem, folder):
    for name, rows in TABLES.items():
        with filesystem.open(f"{folder}/{name}", "wb") as file:
            pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=40)
    for name, rows in LINES.items():
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        with filesystem.open(f"{folder}/{name}", "wb") as file:
            file.write(gzip.compress(data) if name.endswith(".gz") else data)
    noise = [os.urandom(1000).hex() for _ in range(WIDE_ROWS)]
    with filesystem.open(f"{folder}/wide/wide.parquet", "wb") as file:
        table = pa.table({"id": range(WIDE_ROWS), "noise": noise})
        pq.write_table(table, file, row_group_size=500, compression=None, use_dictionary=False)
    with filesystem.open(f"{folder}/wide/wide.jsonl", "wb") as file:
        file.write("".join(f'{{"id": {i}, "noise": "{text}"}}\n' for i, text in enumerate(noise)).encode())
