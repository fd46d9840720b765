"""Nothing of others is written over or removed: not by any way of writing a set, into any kind of folder."""

import json
import os
from pathlib import Path

import fsspec
import pytest
from easydata_sources import DataError, JsonShardedSource
from easydata_tokenize import (
    ForeignFilesError,
    OverlapError,
    SavedSetDiffersError,
    load_tokenizer,
    open_saved,
    save_dataset,
    save_iterator,
    tokenize_and_save,
)

ROWS = [{"id": n, "text": f"row {n}"} for n in range(50)]


def save(folder, **options):
    return save_dataset(ROWS, folder, **options)


def iterate(folder, **options):
    return save_iterator(iter(ROWS), folder, **options)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def put(folder: Path, name: str, content: str = "of somebody else") -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


FOREIGN = [
    "shard-00000.parquet",
    "shard-notes.txt",
    "_work/notes.txt",
    "_work/shard/00000/mine.part",
    "_lengths/mine.npy",
    "_lengths/shard-00000.npy",
    "sub/rows.jsonl",
    "README.md",
    "näme with\nodd [characters]*.txt",
]


@pytest.mark.parametrize("write", [save, iterate])
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", FOREIGN)
def test_a_folder_with_files_of_others_is_refused_and_left_as_it_is(tmp_path, write, overwrite, name):
    put(tmp_path, name)
    before = contents(tmp_path)
    with pytest.raises(ForeignFilesError, match="no set of this writer lists"):
        write(tmp_path, overwrite=overwrite)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", FOREIGN[1:])
def test_files_of_others_beside_a_set_stop_its_overwriting(tmp_path, name):
    save(tmp_path)
    put(tmp_path, name)
    before = contents(tmp_path)
    with pytest.raises(ForeignFilesError):
        save_dataset(ROWS[:5], tmp_path, overwrite=True)
    assert contents(tmp_path) == before
    save(tmp_path)  # whole: nothing to do


def test_shards_that_the_manifest_does_not_list_are_not_ours(tmp_path):
    save(tmp_path)
    put(tmp_path, "shard-00001.parquet")
    with pytest.raises(ForeignFilesError, match=r"shard-00001\.parquet"):
        save_dataset(ROWS * 2, tmp_path, overwrite=True)


def test_a_shards_name_that_is_taken_meanwhile_is_not_written_over(tmp_path):
    def rows():
        put(tmp_path, "shard-00000.parquet")
        yield from ROWS

    with pytest.raises(ForeignFilesError, match="is there already"):
        save_iterator(rows(), tmp_path)
    assert (tmp_path / "shard-00000.parquet").read_text() == "of somebody else"


def test_names_that_begin_with_a_dot_are_left_alone(tmp_path):
    for name in (".gitkeep", ".writing-notes", "sub/.writing-0123", ".writing-" + 32 * "a"):
        put(tmp_path, name)
    (tmp_path / "sub").rename(tmp_path / ".sub")
    save(tmp_path)
    save_dataset(ROWS[:5], tmp_path, overwrite=True)
    assert {".gitkeep", ".writing-notes", ".writing-" + 32 * "a", ".sub"} <= {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / ".sub" / ".writing-0123").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"\xff\xfe",
        b"[]",
        b'"complete"',
        b'{"complete": true}',
        b'{"version": 2}',
        b'{"version": 9, "complete": true}',
        b'{"version": 2, "complete": 1, "identity": {}, "units": {}}',
        b'{"version": 2, "complete": true, "identity": {}, "units": []}',
        b'{"version": 2, "complete": true, "identity": {}, "units": {"a": {"shards": [], "counted": []}}}',
        b'{"version": 2, "complete": true, "identity": {}, "units": {"0": {"shards": [{}], "counted": []}}}',
    ],
)
def test_a_manifest_of_another_program_is_no_leave_to_remove_anything(tmp_path, content):
    put(tmp_path, "shard-00000.parquet")
    (tmp_path / "_manifest.json").write_bytes(content)
    before = contents(tmp_path)
    for call in (save, iterate, lambda folder, overwrite: open_saved(folder)):
        for overwrite in (False, True):
            with pytest.raises(DataError) as caught:
                call(tmp_path, overwrite=overwrite)
            assert len(str(caught.value).splitlines()) < 10
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "name", ["../mine.txt", "/etc/hostname", "sub/../../mine.txt", "mine.txt", "_work/../../mine.txt"]
)
def test_a_manifest_that_lists_files_elsewhere_is_refused(tmp_path, name):
    folder = tmp_path / "set"
    save(folder)
    put(tmp_path, "mine.txt")
    put(folder, "mine.txt")
    manifest = json.loads((folder / "_manifest.json").read_text())
    manifest["units"]["0"]["shards"][0]["file"] = name
    (folder / "_manifest.json").write_text(json.dumps(manifest))
    before = contents(tmp_path)
    for call in (lambda: save(folder, overwrite=True), lambda: open_saved(folder)):
        with pytest.raises(DataError, match="a manifest of files that no set has"):
            call()
    assert contents(tmp_path) == before


@pytest.mark.parametrize("inner", ["_work", "_lengths", "shard-00000.parquet"])
def test_links_in_the_folder_are_not_followed(tmp_path, inner):
    (tmp_path / "set").mkdir()
    put(tmp_path, "elsewhere/shard/00000/00000.part")
    os.symlink(tmp_path / "elsewhere", tmp_path / "set" / inner)
    before = contents(tmp_path / "elsewhere")
    with pytest.raises(ForeignFilesError):
        save(tmp_path / "set")
    assert contents(tmp_path / "elsewhere") == before
    os.symlink(tmp_path / "real", tmp_path / "link")
    (tmp_path / "real").mkdir()
    assert save(tmp_path / "link").num_examples == 50  # the folder itself may be one


def jsonl(folder: Path, count: int = 1) -> Path:
    for number in range(count):
        put(folder, f"{number}.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS))
    return folder


def test_the_output_is_never_in_the_input_nor_the_input_in_the_output(tmp_path, golden):
    tokenizer = load_tokenizer(golden / "tokenizer")
    raw = jsonl(tmp_path / "raw", 2)
    jsonl(raw / "more")
    os.symlink(raw, tmp_path / "link")
    before = contents(tmp_path)
    refused = [
        (str(raw / "*.jsonl"), raw),
        (str(raw / "*.jsonl"), tmp_path),
        (str(raw / "*.jsonl"), tmp_path / "link"),
        (str(raw), raw / "tokenized"),
        (raw, raw / "a" / "b"),
        (str(raw / "**" / "*.parquet"), raw / "tokenized"),
        ([str(raw / "0.jsonl"), str(raw / "1.jsonl")], raw),
        (JsonShardedSource(str(raw / "*.jsonl")).shuffle(1).map(dict).limit(5), raw),
    ]
    for data, output in refused:
        with pytest.raises(DataError):
            tokenize_and_save(data, tokenizer, output, overwrite=True)
    with pytest.raises(OverlapError, match=r"the input .* lies in it"):
        save_dataset(raw, tmp_path / "link", overwrite=True)
    with pytest.raises(OverlapError, match="would find it as input"):
        tokenize_and_save(str(raw / "*" / "*.jsonl"), tokenizer, raw / "tokenized", "jsonl")
    assert contents(tmp_path) == before
    assert tokenize_and_save(str(raw / "*.jsonl"), tokenizer, raw / "tokenized").num_examples == 100


def test_a_set_is_not_written_over_itself(tmp_path):
    save(tmp_path / "set")
    for source in (open_saved(tmp_path / "set"), open_saved(tmp_path / "set").shuffle(3).map(dict)):
        with pytest.raises(OverlapError):
            save_dataset(source, tmp_path / "set", overwrite=True)
    assert len(open_saved(tmp_path / "set", verify=True)) == 50


def test_an_unfinished_set_is_not_taken_by_an_iterator(tmp_path):
    def fails(row):
        if row["id"] == 40:
            raise KeyError
        return row

    with pytest.raises(KeyError):
        save_dataset(JsonShardedSource(str(jsonl(tmp_path / "raw"))).map(fails), tmp_path / "set", row_group_size=10)
    before = contents(tmp_path)
    with pytest.raises(SavedSetDiffersError, match="has begun"):
        iterate(tmp_path / "set")
    assert contents(tmp_path) == before


def test_buckets_are_as_safe(tmp_path):
    memory = fsspec.filesystem("memory")
    try:
        memory.pipe("/owned/set/shard-00000.parquet", b"mine")
        for overwrite in (False, True):
            with pytest.raises(ForeignFilesError):
                save("memory://owned/set", overwrite=overwrite)
        memory.pipe("/owned/raw/a.jsonl", b'{"a": 1}\n')
        with pytest.raises(OverlapError):
            save_dataset("memory://owned/raw/*.jsonl", "memory://owned/raw", overwrite=True)
        assert memory.cat("/owned/set/shard-00000.parquet") == b"mine"
        save_dataset("memory://owned/raw/*.jsonl", "memory://owned/new")
        save("memory://owned/new", overwrite=True)
        assert len(open_saved("memory://owned/new")) == 50
        assert [name for name in memory.find("/owned/new") if ".easydata" in name or "_work" in name] == []
    finally:
        memory.rm("/owned", recursive=True)


def test_overwriting_that_was_killed_leaves_nothing_readable_and_ends_well(tmp_path, monkeypatch):
    from easydata_tokenize.saved import manifest as manifests

    save_dataset([{"input_ids": [1, n]} for n in range(100)], tmp_path, max_shard_size="1KB")
    removed = manifests.remove_owned

    def dies(folder, owned):
        removed(folder, sorted(owned)[:3])
        raise KeyboardInterrupt

    monkeypatch.setattr(manifests, "remove_owned", dies)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, overwrite=True)
    with pytest.raises(DataError, match="holds no complete set"):
        open_saved(tmp_path)
    monkeypatch.undo()
    save(tmp_path)  # without overwrite: the old set is gone as it was asked
    assert list(open_saved(tmp_path, verify=True).rows()) == ROWS
    assert {path.name for path in tmp_path.iterdir()} == {"_manifest.json", "shard-00000.parquet"}
