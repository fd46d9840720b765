"""Sets by URL, their lengths, and the line on the terminal."""

import io

import fsspec
import numpy as np
import pytest
from easydata_sources import DataError, MemoryShardedSource, ParquetShardedSource, UnfinishedFilesError
from easydata_tokenize import IncompleteSetError, SavedSetDiffersError, open_saved, save_dataset, save_iterator
from easydata_tokenize.saved.folder import SetFolder
from easydata_tokenize.shards.progress import Progress, progress_bar
from rich.console import Console

ROWS = [{"input_ids": list(range(n % 9)), "id": n} for n in range(1000)]


@pytest.fixture
def bucket():
    """The URL of a folder that is nowhere on the disk."""
    memory = fsspec.filesystem("memory")
    yield "memory://bucket/set"
    if memory.exists("/bucket"):
        memory.rm("/bucket", recursive=True)


@pytest.mark.parametrize(("format", "compression"), [("parquet", "zstd"), ("arrow", "lz4"), ("jsonl", "gzip")])
def test_a_set_in_a_bucket_is_the_set_on_the_disk(tmp_path, bucket, format, compression):
    there = save_dataset(ROWS, bucket, format, "8KB", compression=compression, row_group_size=100)
    here = save_dataset(ROWS, tmp_path / "set", format, "8KB", compression=compression, row_group_size=100)
    assert there.num_shards == here.num_shards > 3
    for path, url in zip(here.output_paths, there.output_paths, strict=True):
        assert url.startswith("memory://bucket/set/shard-0000")
        with open(path, "rb") as local, fsspec.open(url) as remote:
            assert local.read() == remote.read()
    assert list(open_saved(bucket, verify=True).rows()) == ROWS
    names = fsspec.filesystem("memory").find("/bucket/set")
    assert not [name for name in names if "_work" in name]
    assert save_dataset(ROWS, bucket, format, "8KB", compression=compression, row_group_size=100) == there


class Dies(Exception):
    pass


def dying_at(limit):
    def until(row):
        if row["id"] >= limit:
            raise Dies
        return row

    return until


def test_a_run_into_a_bucket_goes_on_behind_its_last_group(bucket):
    seen = []

    def noted(row):
        seen.append(row["id"])
        return row

    with pytest.raises(Dies):
        save_dataset(MemoryShardedSource(ROWS).map(dying_at(555)), bucket, row_group_size=50)
    with pytest.raises(IncompleteSetError, match="0 rows in whole files so far"):
        open_saved(bucket)
    with pytest.raises(SavedSetDiffersError, match="assume_same=True if you know that the rows are the same"):
        save_dataset(MemoryShardedSource(ROWS).map(noted), bucket, row_group_size=50)
    save_dataset(MemoryShardedSource(ROWS).map(noted), bucket, row_group_size=50, assume_same=True)
    assert seen == list(range(550, 1000))
    assert list(open_saved(bucket).rows()) == ROWS


@pytest.mark.parametrize("where", ["disk", "bucket"])
def test_readers_refuse_the_files_of_a_set_that_is_not_finished(tmp_path, bucket, where):
    folder = bucket if where == "bucket" else str(tmp_path / "set")
    with pytest.raises(Dies):
        save_dataset(MemoryShardedSource(ROWS).map(dying_at(555)), folder, max_shard_size="8KB", row_group_size=50)
    for found in (folder, f"{folder}/*.parquet", f"{folder}/**/*.parquet", f"{folder.rpartition('/')[0]}/*/*.parquet"):
        with pytest.raises(UnfinishedFilesError, match="not written to its end"):
            ParquetShardedSource(found)
    first = f"{folder}/shard-00000.parquet"
    assert next(iter(ParquetShardedSource(first))) == ROWS[0]  # a file that is there is whole
    save_dataset(MemoryShardedSource(ROWS), folder, max_shard_size="8KB", row_group_size=50, overwrite=True)
    assert list(ParquetShardedSource(f"{folder}/*.parquet").rows()) == ROWS


def test_an_upload_that_fails_leaves_no_file(bucket, monkeypatch):
    folder = SetFolder(bucket)

    def half_made():
        with folder.writing("shard-00000.parquet") as path:
            path.write_bytes(b"half")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        half_made()
    assert folder.names() == []


def test_a_group_that_was_torn_is_written_again(tmp_path):
    """After a power failure a file may have its name and not its content."""
    with pytest.raises(Dies):
        save_dataset(MemoryShardedSource(ROWS).map(dying_at(555)), tmp_path / "torn", row_group_size=50)
    part = sorted((tmp_path / "torn" / "_work" / "shard" / "00000").iterdir())[-1]
    content = bytearray(part.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    part.write_bytes(content)
    save_dataset(MemoryShardedSource(ROWS).map(dict), tmp_path / "torn", row_group_size=50, assume_same=True)
    save_dataset(MemoryShardedSource(ROWS).map(dict), tmp_path / "whole", row_group_size=50)
    name = "shard-00000.parquet"
    assert (tmp_path / "torn" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_lengths_are_known_without_reading_rows(tmp_path):
    stats = save_dataset(ROWS, tmp_path, max_shard_size="8KB", row_group_size=100)
    source = open_saved(tmp_path)
    for path in stats.output_paths:  # from here on no row can be read
        with open(path, "r+b") as file:
            file.write(bytes(100))
    assert len(source) == 1000
    np.testing.assert_array_equal(source.token_lengths(), [n % 9 for n in range(1000)])
    assert source.token_lengths().dtype == np.uint32
    assert source.num_tokens == stats.num_tokens == sum(n % 9 for n in range(1000))
    lengths = sorted((tmp_path / "_lengths").iterdir())
    assert len(lengths) == stats.num_shards
    lengths[1].write_bytes(lengths[0].read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(IncompleteSetError, match=r"shard-00001\.npy is not what was written"):
        source.token_lengths()


def test_lengths_of_answers_count_all_their_tokens(tmp_path):
    save_dataset([{"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [4, 5, 6]}], tmp_path / "pairs")
    assert open_saved(tmp_path / "pairs").token_lengths().tolist() == [6]
    save_dataset([{"text": "no tokens"}], tmp_path / "texts")
    assert open_saved(tmp_path / "texts").token_lengths() is None
    save_dataset([], tmp_path / "none")
    assert (len(open_saved(tmp_path / "none")), list(open_saved(tmp_path / "none").rows())) == (0, [])


def test_what_is_no_place_to_write_is_refused(tmp_path):
    with pytest.raises(DataError, match="Nothing reads addresses that begin with nowhere://"):
        save_dataset(ROWS, "nowhere://bucket/set")
    with pytest.raises(DataError, match="`compression` of arrow files"):
        save_dataset(ROWS, tmp_path, "arrow", compression="gzip")
    with pytest.raises(DataError, match="row_group_size"):
        save_dataset(ROWS, tmp_path, row_group_size=0)
    save_iterator(iter(ROWS), tmp_path / "set")
    manifest = tmp_path / "set" / "_manifest.json"
    manifest.write_text(manifest.read_text().replace('"version": 2', '"version": 1'))
    with pytest.raises(SavedSetDiffersError, match="another version"):
        open_saved(tmp_path / "set")


def test_secrets_in_addresses_are_not_stored(tmp_path):
    with fsspec.open("memory://signed/rows.jsonl", "w") as file:
        file.write('{"n": 1}\n')
    save_dataset("memory://signed/rows.jsonl", tmp_path, storage_options={"token": "s3cr3t"})
    assert "s3cr3t" not in (tmp_path / "_manifest.json").read_text()
    fsspec.filesystem("memory").rm("/signed", recursive=True)


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_rates_and_the_time_left_on_a_terminal_only(terminal):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=120, color_system=None)
    with progress_bar("Writing set", 400, shown=True, console=console) as on_commit:
        on_commit(Progress(source_rows=100, rows=99, tokens=5000))
    shown = screen.getvalue()
    assert bool(shown) == terminal
    for part in ("Writing set", "100/400", "rows/s", "tokens/s", "0:00:0", " left") if terminal else ():
        assert part in shown
