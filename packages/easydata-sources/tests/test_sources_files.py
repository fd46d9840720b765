from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import fsspec
import pytest
from easydata_sources import (
    DataError,
    DataFilesNotFoundError,
    JsonShardedSource,
    MissingExtraError,
    expand_data_files,
)

JSONL = (".jsonl",)


def names(files: object, folder: Path) -> list[str]:
    return [os.path.relpath(file.url, folder) for file in files]  # type: ignore[attr-defined]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jsonl", "a.jsonl", "deep/c.jsonl", "deep/d.txt", "_hidden/e.jsonl", ".f.jsonl", "odd[1].jsonl"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text('{"id": 1}\n')
    return tmp_path


def test_a_path_is_one_file(folder: Path) -> None:
    assert names(expand_data_files(folder / "b.jsonl", extensions=JSONL), folder) == ["b.jsonl"]


def test_a_glob_is_sorted_and_a_list_keeps_its_order_without_repeats(folder: Path) -> None:
    assert names(expand_data_files(f"{folder}/[ab].jsonl", extensions=JSONL), folder) == ["a.jsonl", "b.jsonl"]
    files = expand_data_files([folder / "b.jsonl", f"{folder}/[ab].jsonl"], extensions=JSONL)
    assert names(files, folder) == ["b.jsonl", "a.jsonl"]


def test_a_folder_is_searched_at_any_depth_without_hidden_names(folder: Path) -> None:
    files = expand_data_files(folder, extensions=JSONL)
    assert names(files, folder) == ["a.jsonl", "b.jsonl", "deep/c.jsonl", "odd[1].jsonl"]


def test_a_double_star_searches_sub_folders(folder: Path) -> None:
    assert "deep/c.jsonl" in names(expand_data_files(f"{folder}/**/*.jsonl", extensions=JSONL), folder)


def test_a_name_with_brackets_that_exists_is_no_glob(folder: Path) -> None:
    assert names(expand_data_files(folder / "odd[1].jsonl", extensions=JSONL), folder) == ["odd[1].jsonl"]


def test_a_relative_path_becomes_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert expand_data_files("a.jsonl", extensions=JSONL)[0].url == str(folder / "a.jsonl")


def test_a_missing_file_names_what_the_folder_holds(folder: Path) -> None:
    with pytest.raises(DataFilesNotFoundError, match=r"no file '.*z\.jsonl'(.|\n)*holds: .*a\.jsonl"):
        JsonShardedSource(folder / "z.jsonl")
    with pytest.raises(FileNotFoundError, match="does not exist either"):
        JsonShardedSource(folder / "nowhere" / "z.jsonl")


def test_an_empty_glob_an_empty_folder_and_an_empty_list_are_refused(folder: Path) -> None:
    with pytest.raises(DataFilesNotFoundError, match=r"No file matches '.*\*\.parquet'"):
        expand_data_files(f"{folder}/*.parquet", extensions=JSONL)
    with pytest.raises(DataFilesNotFoundError, match=r"holds no file ending in \.csv"):
        expand_data_files(folder, extensions=(".csv",))
    with pytest.raises(DataFilesNotFoundError, match="list of paths is empty"):
        expand_data_files([], extensions=JSONL)


@pytest.mark.parametrize("pattern", ["bucket://box/*.jsonl", "bucket://box/", "bucket://box/?.jsonl"])
def test_urls_keep_their_container(pattern: str, bucket: Any) -> None:
    bucket.files = {"box/a.jsonl": b"{}", "box/b.jsonl": b"{}"}
    urls = [file.url for file in expand_data_files(pattern, extensions=JSONL)]
    assert urls == ["bucket://box/a.jsonl", "bucket://box/b.jsonl"]


def test_memory_urls_keep_their_first_part() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/box/deep/a.jsonl", b'{"id": 7}')
    try:
        source = JsonShardedSource("memory://box/*/*.jsonl")
        assert source.shard_names == ("memory:///box/deep/a.jsonl",) or "box/deep/a.jsonl" in source.shard_names[0]
        assert list(source) == [{"id": 7}]
    finally:
        memory.rm("/box", recursive=True)


def test_storage_options_are_used_for_globbing_too(bucket: Any) -> None:
    bucket.files = {"box/a.jsonl": b'{"id": 7}'}
    bucket.key = "sesame"
    source = JsonShardedSource("bucket://box/*.jsonl", storage_options={"key": "sesame"})
    assert list(source) == [{"id": 7}]
    with pytest.raises(PermissionError):
        JsonShardedSource("bucket://box/*.jsonl")


def test_secrets_are_never_shown(bucket: Any) -> None:
    bucket.files = {"box/a.jsonl": b"{}"}
    file = expand_data_files("bucket://box/a.jsonl", storage_options={"key": "sesame"}, extensions=JSONL)[0]
    assert "sesame" not in repr(file)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", refuse)
    with pytest.raises(MissingExtraError, match=r'pip install "easydata-sources\[s3\]"'):
        JsonShardedSource("s3://box/*.jsonl")


def test_an_unknown_protocol_lists_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"begin with ftpx://(.|\n)*s3://"):
        JsonShardedSource("ftpx://box/a.jsonl")
