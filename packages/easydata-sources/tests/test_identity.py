"""Equal identities, equal rows: whatever changes what is read changes the identity, and nothing else does."""

from __future__ import annotations

import json
import operator
import os
import re
from functools import lru_cache, partial

import datasets
import fsspec
import numpy as np
import pytest
from easydata_sources import (
    CompositeShardedSource,
    CsvShardedSource,
    HFDatasetShardedSource,
    JsonShardedSource,
    MemoryShardedSource,
    ParquetShardedSource,
    Transform,
)
from easydata_sources import identity as identity_module
from easydata_sources.identity import function_identity, unidentified

ROWS = [{"text": f"row {number}", "n": number} for number in range(40)]
EDITED = [*ROWS[:7], {"text": "row X", "n": 7}, *ROWS[8:]]
SWAPPED = [ROWS[1], ROWS[0], *ROWS[2:]]


def files(tmp_path, rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return JsonShardedSource(path)


def table(tmp_path, rows):
    return HFDatasetShardedSource(datasets.Dataset.from_list(rows))


def stream(tmp_path, rows):
    return HFDatasetShardedSource(datasets.Dataset.from_list(rows).to_iterable_dataset())


def memory(tmp_path, rows):
    return MemoryShardedSource(rows)


@pytest.mark.parametrize("make", [files, table, stream, memory])
@pytest.mark.parametrize("large", [False, True])
def test_other_rows_of_equal_number_and_size_are_another_identity(make, large, tmp_path, monkeypatch):
    if large:  # too large to be read whole: samples stand for the rest
        monkeypatch.setattr(identity_module, "_WHOLE_BYTES", 10)
        monkeypatch.setattr(identity_module, "_SAMPLE_BYTES", 64)
        monkeypatch.setattr(identity_module, "_SAMPLES", 8)
    found = [make(tmp_path, rows).identity() for rows in (ROWS, EDITED, SWAPPED, ROWS[::-1])]
    assert len({json.dumps(one) for one in found}) == 4
    if not large or make is not files:  # a large file that was written anew is another one by its time
        assert make(tmp_path, [dict(row) for row in ROWS]).identity() == found[0]
    assert bool(list(unidentified(found[0]))) == (make is stream)


def test_where_a_file_lies_and_when_it_was_written_does_not_count(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    first, second = files(tmp_path, ROWS), files(tmp_path / "elsewhere", ROWS)
    os.utime(second.files[0].url, (0, 0))
    assert first.identity() == second.identity()


def test_options_that_change_rows_count(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a;b\n1;2\n")
    assert CsvShardedSource(path).identity() != CsvShardedSource(path, delimiter=";").identity()
    parquet = tmp_path / "rows.parquet"
    datasets.Dataset.from_list(ROWS).to_parquet(parquet)
    assert ParquetShardedSource(parquet).identity() != ParquetShardedSource(parquet, columns=["n"]).identity()


def test_the_code_of_a_function_and_what_it_uses_count():
    source, known = MemoryShardedSource(ROWS), {}

    def scaled(factor):
        return lambda row: {**row, "n": factor * row["n"]}

    known = [source.map(scaled(2)), source.map(scaled(3)), source.map(lambda row: {**row, "n": 2 + row["n"]})]
    known += [source.filter(lambda row: row["n"] > 3), source.filter(lambda row: row["n"] > 4), source]
    known += [source.limit(10), source.shuffle(1), source.shuffle(2), source.shard(0, 2), source.drop_fields(["n"])]
    found = [json.dumps(one.identity()) for one in known]
    assert len(set(found)) == len(found)
    assert source.map(scaled(2)).identity() == source.map(scaled(2)).identity()
    assert not [what for one in known for what in unidentified(one.identity())]


def test_what_cannot_be_known_is_said_and_reading_changes_nothing():
    secret = object()
    source = MemoryShardedSource(ROWS).map(lambda row: row | {"id": bool(secret)})
    assert list(unidentified(source.identity())) == ["the value of a builtins.object"]
    whole = CompositeShardedSource([MemoryShardedSource(ROWS), MemoryShardedSource(EDITED)])
    before = whole.identity()
    assert len(list(whole.rows())) == 80
    assert whole.identity() == before


class Replaced:
    def __init__(self, old, new):
        self.old, self.new = old, new

    def __call__(self, row):
        return {**row, "text": row["text"].replace(self.old, self.new)}

    def method(self, row):
        return self(row)


def test_objects_methods_and_library_callables_count_by_what_they_hold():
    pairs = [
        (Replaced("row", "x"), Replaced("row", "y")),
        (Replaced("row", "x").method, Replaced("row", "y").method),
        (operator.itemgetter("text"), operator.itemgetter("n")),
        (partial(dict, a=1), partial(dict, a=2)),
        (re.compile("a").match, re.compile("a", re.IGNORECASE).match),
        (lru_cache(lambda row: 1), lru_cache(lambda row: 2)),
    ]
    for one, other in pairs:
        assert function_identity(one) != function_identity(other)
        assert not list(unidentified(function_identity(one)))


def test_a_function_may_use_arrays_itself_and_secrets():
    weights, key = np.arange(3), "sk-secret"

    def loops(row):
        return loops(row) if row else (weights, key)

    assert "sk-secret" not in json.dumps(function_identity(loops))
    known = function_identity(loops)
    weights[1] = 7
    assert function_identity(loops) != known


def test_another_method_of_a_transform_class_is_another_transform():
    class Doubled(Transform):
        def __call__(self, row):
            return {**row, "n": 2 * row["n"]}

    one = MemoryShardedSource(ROWS).transform(Doubled()).identity()

    class Doubled(Transform):
        def __call__(self, row):
            return {**row, "n": 3 * row["n"]}

    assert MemoryShardedSource(ROWS).transform(Doubled()).identity() != one


def test_a_small_file_of_a_server_that_tells_no_version_is_read():
    with fsspec.open("memory://versions/rows.jsonl", "w") as file:
        file.write('{"n": 1}\n')
    first = JsonShardedSource("memory://versions/rows.jsonl").identity()
    with fsspec.open("memory://versions/rows.jsonl", "w") as file:
        file.write('{"n": 2}\n')
    assert JsonShardedSource("memory://versions/rows.jsonl").identity() != first
    assert not list(unidentified(first))
    fsspec.filesystem("memory").rm("/versions", recursive=True)
