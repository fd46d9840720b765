import json
import os
from pathlib import Path

import pytest
from easydata_sources import DataError, MemoryShardedSource, as_sharded_source
from easydata_tokenize import (
    IncompleteSetError,
    SavedSetDiffersError,
    TokenizeTransform,
    load_tokenizer,
    open_saved,
    save_dataset,
    save_iterator,
    tokenize_and_save,
)
from easydata_tokenize.shards.row_groups import parse_size

ROWS = [{"id": n, "text": f"row {n} " + "word " * (n % 7)} for n in range(1000)]


@pytest.fixture
def tokenizer(golden):
    """SmolLM2's tokenizer with its own template, for a test to change."""
    return load_tokenizer(golden / "tokenizer")


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name.startswith("shard-")}


@pytest.mark.parametrize(
    ("format", "compression"),
    [("parquet", None), ("parquet", "zstd"), ("arrow", None), ("arrow", "zstd"), ("jsonl", None), ("jsonl", "gzip")],
)
def test_rows_come_back_as_they_were(tmp_path, format, compression):
    stats = save_dataset(ROWS, tmp_path / "set", format, max_shard_size="8KB", compression=compression)
    assert (stats.num_examples, stats.num_tokens) == (1000, 0)
    assert stats.num_shards > 3
    assert sum(os.path.getsize(path) for path in stats.output_paths) == stats.total_bytes
    assert list(open_saved(tmp_path / "set", verify=True).rows()) == ROWS


def test_a_number_of_shards_is_kept(tmp_path):
    stats = save_dataset(ROWS, tmp_path, num_shards=3)
    source = open_saved(tmp_path)
    assert [source.get_shard_info(name).num_rows for name in source.shard_names] == [334, 334, 332]
    assert stats.num_shards == 3


def test_a_set_that_is_complete_is_left_alone(tmp_path):
    save_dataset(ROWS, tmp_path, max_shard_size="8KB")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    save_dataset(ROWS, tmp_path, max_shard_size="8KB")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_a_set_of_something_else_is_refused_naming_it(tmp_path):
    save_dataset(ROWS, tmp_path, max_shard_size="8KB")
    with pytest.raises(SavedSetDiffersError, match="max_bytes: 8192 then, 16384 now"):
        save_dataset(ROWS, tmp_path, max_shard_size="16KB")
    with pytest.raises(SavedSetDiffersError, match="source:"):
        save_dataset(ROWS[:10], tmp_path, max_shard_size="8KB")
    assert save_dataset(ROWS[:10], tmp_path, max_shard_size="8KB", overwrite=True).num_examples == 10
    assert len(files_of(tmp_path)) == 1  # nothing of the longer set is left to be read


class Dies(Exception):
    pass


def test_a_run_that_died_goes_on_with_the_same_bytes(tmp_path):
    save_dataset(ROWS, tmp_path / "whole", max_shard_size="4KB")
    source, limit = MemoryShardedSource(ROWS), [300]

    def until_the_limit(row):
        if row["id"] >= limit[0]:
            raise Dies
        return row

    for reached in (300, 700, 2000):
        limit[0] = reached
        try:
            # The limit is a value that the function uses, so it is another function each time.
            save_dataset(source.map(until_the_limit), tmp_path / "died", max_shard_size="4KB", assume_same=True)
        except Dies:
            with pytest.raises(IncompleteSetError):
                open_saved(tmp_path / "died")
    assert files_of(tmp_path / "died") == files_of(tmp_path / "whole")


def test_a_file_that_was_changed_is_found(tmp_path):
    stats = save_dataset(ROWS, tmp_path, "jsonl", max_shard_size="8KB")
    path = stats.output_paths[1]
    content = bytearray(Path(path).read_bytes())
    content[5] ^= 1
    Path(path).write_bytes(content)
    open_saved(tmp_path)
    with pytest.raises(IncompleteSetError, match="checksum"):
        open_saved(tmp_path, verify=True)
    os.remove(path)
    with pytest.raises(IncompleteSetError, match="missing"):
        open_saved(tmp_path)


def test_an_iterator_is_written_and_never_over_a_whole_set(tmp_path):
    assert save_iterator(iter(ROWS), tmp_path).num_examples == 1000
    with pytest.raises(SavedSetDiffersError, match="overwrite=True"):
        save_iterator(iter(ROWS), tmp_path)
    assert save_iterator(iter(ROWS[:3]), tmp_path, overwrite=True).num_examples == 3


def test_chats_are_tokenized_once_for_all(tmp_path, tokenizer):
    rows = [
        {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]},
        {"prompt": "1 + 1 =", "completion": " 2"},
        {"text": "word " * 50},
    ]
    stats = tokenize_and_save(rows, tokenizer, tmp_path, max_length=40)
    saved = list(open_saved(tmp_path).rows())
    (chat,), (pair,), _ = TokenizeTransform(tokenizer, 40).transform_batch(rows)
    assert saved[0]["input_ids"] == chat["input_ids"].tolist()
    assert (saved[1]["input_ids"], saved[1]["completion_mask"]) == (pair["input_ids"].tolist(), [0] * 5 + [1] * 3)
    assert len(saved[2]["input_ids"]) == 40
    assert stats.num_tokens == sum(len(row["input_ids"]) for row in saved)
    assert tokenize_and_save(rows, tokenizer, tmp_path, max_length=40) == stats
    with pytest.raises(SavedSetDiffersError, match="max_length"):
        tokenize_and_save(rows, tokenizer, tmp_path, max_length=39)


def test_another_template_is_another_tokenizer(tmp_path, tokenizer):
    rows = [{"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}]
    tokenize_and_save(rows, tokenizer, tmp_path)
    tokenizer.chat_template += " "
    with pytest.raises(SavedSetDiffersError, match="tokenizer"):
        tokenize_and_save(rows, tokenizer, tmp_path)


def test_what_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(DataError, match="parquet, arrow, jsonl"):
        save_dataset(ROWS, tmp_path, "csv")
    with pytest.raises(DataError, match="positive number of bytes"):
        save_dataset(ROWS, tmp_path, max_shard_size="many")
    (tmp_path / "a file").write_text("")
    with pytest.raises(DataError, match="cannot be written to"):
        save_dataset(ROWS, tmp_path / "a file")
    assert parse_size("1MB") == 2**20


def test_the_manifest_is_plain_json_and_says_nothing_of_the_way_there(tmp_path):
    save_dataset(ROWS, tmp_path)
    manifest = json.loads((tmp_path / "_manifest.json").read_text())
    assert manifest["complete"]
    assert set(manifest["units"]["0"]["shards"][0]) == {"file", "rows", "tokens", "bytes", "sha256"}
    assert {path.name for path in tmp_path.iterdir()} == {"_manifest.json", "shard-00000.parquet"}


def test_one_source_object_is_saved_as_often_as_asked(tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"n": n}) + "\n" for n in range(9)))
    source = as_sharded_source(tmp_path / "a.jsonl")
    for number, view in enumerate([source, source.limit(5), source.shuffle(1), source.map(dict).on_bad_rows("skip")]):
        once = save_dataset(view, tmp_path / str(number))
        assert save_dataset(view, tmp_path / str(number)) == once
        assert save_dataset(view, tmp_path / f"{number}_again").num_examples == once.num_examples


@pytest.mark.parametrize("format", ["jsonl", "arrow", "parquet"])
def test_rows_without_fields_are_read_back_or_refused(tmp_path, format):
    mixed = [{}] * 3 + [{"a": 1}]
    save_dataset(mixed, tmp_path / "mixed", format, row_group_size=2)
    read = list(open_saved(tmp_path / "mixed"))
    assert [row.get("a") for row in read] == [None, None, None, 1]
    if format == "parquet":
        with pytest.raises(DataError, match=r"no fields(.|\n)*mend: format='jsonl'"):
            save_dataset([{}, {}], tmp_path / "none", format)
        return
    save_dataset([{}] * 5, tmp_path / "none", format, row_group_size=2)
    assert list(open_saved(tmp_path / "none")) == [{}] * 5
