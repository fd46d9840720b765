"""Which files a path, a glob, a folder or an address means, and what their names say of them."""

from __future__ import annotations

import gzip
import json
import logging
import os
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from easydata_sources import (
    ArrowShardedSource,
    CsvShardedSource,
    DataError,
    DataFilesNotFoundError,
    JsonShardedSource,
    MemoryShardedSource,
    ParquetShardedSource,
    as_sharded_source,
    expand_data_files,
)

JSONL = (".jsonl",)


def names(pattern: object, folder: Path) -> list[str]:
    return [os.path.relpath(file.url, folder) for file in expand_data_files(pattern, extensions=JSONL)]  # type: ignore[arg-type]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Return a folder as the Hub's cache has them: names that are links to blobs, of files and of folders."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main"
    blobs.mkdir()
    (snapshot / "data").mkdir(parents=True)
    for number in range(3):
        (blobs / f"blob{number}").write_text(f'{{"id": {number}}}\n')
        (snapshot / "data" / f"{number}.jsonl").symlink_to(Path("../../../blobs") / f"blob{number}")
    (tmp_path / "latest").symlink_to("snapshots/main")
    return tmp_path


@pytest.mark.parametrize("pattern", ["latest", "latest/data/*.jsonl", "latest/**/*.jsonl", "lat*/d?ta/[0-2].jsonl"])
def test_links_to_files_and_folders_are_followed(pattern: str, cache: Path) -> None:
    assert names(f"{cache}/{pattern}", cache) == [f"latest/data/{number}.jsonl" for number in range(3)]
    assert [row["id"] for row in JsonShardedSource(f"{cache}/{pattern}")] == [0, 1, 2]


def test_links_that_lead_in_a_circle_are_followed_once(cache: Path) -> None:
    (cache / "latest" / "data" / "up").symlink_to("../..")
    (cache / "latest" / "again").symlink_to(".")
    for pattern in (cache / "latest", f"{cache}/latest/**/*.jsonl", f"{cache}/**/0.jsonl"):
        found = names(pattern, cache)
        assert 1 <= len(found) < 20
        assert len(found) == len(set(found))
    assert {row["id"] for row in JsonShardedSource(cache / "latest")} == {0, 1, 2}


def test_a_link_to_nothing_is_told(cache: Path) -> None:
    (cache / "blobs" / "blob1").unlink()
    for pattern in (cache / "latest", f"{cache}/latest/data/*.jsonl"):
        with pytest.raises(DataFilesNotFoundError, match=r"1\.jsonl is a symbolic link to .*blob1, which does not"):
            names(pattern, cache)


def test_two_stars_are_any_number_of_folders_and_hidden_names_need_a_point(tmp_path: Path) -> None:
    for name in ("a.jsonl", "x/b.jsonl", "x/y/c.jsonl", ".h/d.jsonl", "x/.e.jsonl", "x/f.txt", "[odd]/g.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text("{}")
    assert names(f"{tmp_path}/**/*.jsonl", tmp_path) == ["[odd]/g.jsonl", "a.jsonl", "x/b.jsonl", "x/y/c.jsonl"]
    assert names(f"{tmp_path}/x/**/c.jsonl", tmp_path) == ["x/y/c.jsonl"]
    assert names(f"{tmp_path}/x/**", tmp_path) == ["x/b.jsonl", "x/f.txt", "x/y/c.jsonl"]
    assert names(f"{tmp_path}/.h/*.jsonl", tmp_path) == [".h/d.jsonl"]
    assert names(f"{tmp_path}/x/.*", tmp_path) == ["x/.e.jsonl"]
    assert names(f"{tmp_path}/[[]odd]/*", tmp_path) == ["[odd]/g.jsonl"]
    assert names(f"{tmp_path}/[!x].jsonl", tmp_path) == ["a.jsonl"]


def test_an_empty_path_is_not_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1}')
    monkeypatch.chdir(tmp_path)
    for nothing in ("", "  ", ["a.jsonl", ""]):
        with pytest.raises(DataFilesNotFoundError, match="empty path"):
            as_sharded_source(nothing)
    assert list(as_sharded_source(".")) == [{"id": 1}]


def test_files_of_a_folder_that_may_hold_rows_and_are_not_read_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.jsonl", "b.jsonl.br", "c.zip", "README.md", "d.jsonlines"):
        (tmp_path / name).write_text('{"id": 1}')
    with caplog.at_level(logging.WARNING):
        assert len(list(as_sharded_source(tmp_path))) == 2
    (message,) = [record.getMessage() for record in caplog.records]
    assert "b.jsonl.br" in message
    assert "c.zip" in message
    assert "README" not in message


def test_a_folder_that_datasets_saved_is_read_by_its_own_list(tmp_path: Path) -> None:
    rows = [{"id": i, "text": f"row {i}"} for i in range(300)]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved", num_shards=3)
    stale = tmp_path / "saved" / "cache-0123.arrow"
    stale.write_bytes((tmp_path / "saved" / "data-00000-of-00003.arrow").read_bytes())
    for source in (as_sharded_source(tmp_path / "saved"), ArrowShardedSource(tmp_path / "saved")):
        assert list(source) == rows
    (tmp_path / "saved" / "data-00001-of-00003.arrow").unlink()
    with pytest.raises(DataFilesNotFoundError, match=r"lacks files .*data-00001"):
        as_sharded_source(tmp_path / "saved")


def test_the_splits_of_a_saved_dictionary_are_not_joined(tmp_path: Path) -> None:
    whole = datasets.Dataset.from_list([{"id": i} for i in range(10)])
    datasets.DatasetDict({"train": whole, "test": whole.select([0])}).save_to_disk(tmp_path / "both")
    with pytest.raises(DataError, match=r"the splits 'train', 'test'(.|\n)*both/train"):
        as_sharded_source(tmp_path / "both")
    assert len(as_sharded_source(tmp_path / "both" / "test")) == 1


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
def test_columns_that_folders_name_are_columns(kind: str, tmp_path: Path) -> None:
    for lang in ("en", "de%2FAT", "__HIVE_DEFAULT_PARTITION__"):
        for year in ("2023", "2024"):
            folder = tmp_path / "set" / f"lang={lang}" / f"year={year}"
            folder.mkdir(parents=True)
            if kind == "parquet":
                pq.write_table(pa.table({"text": ["a", "b"]}), folder / "part.parquet")
            elif kind == "jsonl":
                (folder / "part.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
            else:
                (folder / "part.csv").write_text("text\na\nb\n")
    source = as_sharded_source(tmp_path / "set")
    rows = list(source)
    assert len(rows) == 12
    assert {(row["lang"], row["year"]) for row in rows} == {
        (lang, year) for lang in ("en", "de/AT", None) for year in (2023, 2024)
    }
    assert list(rows[0]) == ["text", "lang", "year"]
    key = json.dumps
    assert sorted(map(key, source.shuffle(1))) == sorted(map(key, rows))
    assert [row for batch in source.batches(5) for row in batch.to_pylist()] == rows
    stream = source.rows()
    assert [next(stream) for _ in range(3)] + list(source.rows(stream.state())) == rows
    if kind == "parquet":
        picked = ParquetShardedSource(tmp_path / "set", columns=["text", "year"])
        assert list(next(picked.rows())) == ["text", "year"]
        with pytest.raises(DataError, match="column: month"):
            list(ParquetShardedSource(tmp_path / "set", columns=["month"]))


def test_a_column_of_the_file_wins_over_that_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "lang=en").mkdir()
    (tmp_path / "lang=en" / "a.jsonl").write_text('{"lang": "de"}\n{"id": 1}\n')
    assert list(JsonShardedSource(tmp_path)) == [{"lang": "de"}, {"id": 1, "lang": "en"}]


@pytest.mark.parametrize(("rows", "hosts"), [(10, 2), (3, 2), (200, 2), (1000, 3), (7, 8), (0, 2)])
def test_each_host_gets_its_share_of_few_rows(rows: int, hosts: int, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(f'{{"id": {i}}}\n' for i in range(rows)))
    for source in (JsonShardedSource(tmp_path), MemoryShardedSource([{"id": i} for i in range(rows)])):
        for view in (source, source.shuffle(1), source.map(lambda row: row)):
            shares = [list(view.shard(index, hosts)) for index in range(hosts)]
            assert sorted(row["id"] for share in shares for row in share) == list(range(rows))
            assert sum(map(bool, shares)) == min(rows, hosts)
            if rows <= 256:
                assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path), **options)  # type: ignore[arg-type]

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_what_follows_the_path_of_an_address_is_no_part_of_the_name(address: str, tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("id\ttext\n1\ta,b\n")
    (tmp_path / "a b.jsonl.gz").write_bytes(gzip.compress(b'{"id": 1}\n'))
    (tmp_path / "a.csv").write_text("id,text\n1,b\n")
    for query in ("", "?token=x.csv", "?download=a.csv&name=b.tsv", "#part.gz", "?X=a/b.parquet"):
        assert list(as_sharded_source(f"{address}/a.tsv{query}")) == [{"id": "1", "text": "a,b"}]
        assert list(CsvShardedSource(f"{address}/a.csv{query}")) == [{"id": "1", "text": "b"}]
        assert list(as_sharded_source(f"{address}/a%20b.jsonl.gz{query}")) == [{"id": 1}]
    with pytest.raises(DataError, match=r"format of .* is not clear"):
        as_sharded_source(f"{address}/?file=a.csv")
