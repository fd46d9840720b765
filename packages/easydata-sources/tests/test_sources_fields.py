"""Row transforms by field: values, filters, layouts of conversations; in both spellings that users know."""

from __future__ import annotations

import json
from itertools import islice

import pytest
from easydata_sources import (
    AddField,
    CombineFields,
    ConvertInputOutputToChatML,
    ConvertToChatML,
    DataError,
    DataFormatError,
    DropFields,
    ExpandTransform,
    ExtractField,
    FilterByField,
    FilterNonEmpty,
    MapField,
    MemoryShardedSource,
    RenameFields,
    SelectFields,
)


@pytest.mark.parametrize(
    ("transform", "row", "expected"),
    [
        (AddField("a", 1), {"b": 2}, {"b": 2, "a": 1}),
        (AddField("a", lambda row: row["b"] + 1), {"b": 2}, {"b": 2, "a": 3}),
        (MapField("a", str.upper), {"a": "x"}, {"a": "X"}),
        (MapField("a", fn=str.upper), {"a": "x"}, {"a": "X"}),
        (MapField("a", len, "n"), {"a": "xyz"}, {"a": "xyz", "n": 3}),
        (MapField("a", str.upper), {"b": "x"}, {"b": "x"}),
        (ExtractField("a.b[1].c", "t"), {"a": {"b": [0, {"c": 5}]}}, {"a": {"b": [0, {"c": 5}]}, "t": 5}),
        (ExtractField("a[-1]", "t"), {"a": [1, 2]}, {"a": [1, 2], "t": 2}),
        (ExtractField("a[7]", "t", default="none"), {"a": [1]}, {"a": [1], "t": "none"}),
        (ExtractField("a.b", "t"), {"a": "text"}, {"a": "text", "t": None}),
        (ExtractField("a[0]", "t"), {"a": "text"}, {"a": "text", "t": None}),
        (CombineFields(["a", "b"], "t"), {"a": "x", "b": 1}, {"a": "x", "b": 1, "t": "x 1"}),
        (CombineFields(fields=["a", "b"], output_field="t"), {"a": "x"}, {"a": "x", "t": "x"}),
        (CombineFields(["a", "b"], "t", combiner=sum, drop_sources=True), {"a": 1, "b": 2, "c": 3}, {"c": 3, "t": 3}),
        (CombineFields(["a", "b"], "a", separator="", drop_sources=True), {"a": "x", "b": "y"}, {"a": "xy"}),
        (CombineFields(["a"], "t"), {"a": None}, {"a": None, "t": ""}),
        (FilterByField("a", lambda a: a > 1), {"a": 2}, {"a": 2}),
        (FilterByField("a", pred=lambda a: a > 1), {"a": 1}, None),
        (FilterByField("a", bool), {"b": 1}, None),
        (FilterNonEmpty(["a", "b"]), {"a": 0, "b": [1]}, {"a": 0, "b": [1]}),
        (FilterNonEmpty(["a"]), {"a": []}, None),
        (FilterNonEmpty(["a"]), {"a": " \n"}, None),
        (RenameFields({"a": "b", "x": "y"}), {"a": 1, "c": 2}, {"b": 1, "c": 2}),
        (SelectFields(["a", "x"]), {"a": 1, "c": 2}, {"a": 1}),
        (DropFields(["a", "x"]), {"a": 1, "c": 2}, {"c": 2}),
    ],
)
def test_what_each_does_without_changing_its_row(transform, row, expected) -> None:
    before = json.dumps(row)
    assert transform(row) == expected
    assert json.dumps(row) == before


def test_sharegpt_messages_keep_what_they_carry() -> None:
    row = {
        "id": 1,
        "conversations": [
            {"from": "system", "value": "Be brief."},
            {"from": "human", "value": "Hi", "name": "Ann"},
            {"from": "gpt", "value": None, "tool_calls": [{"id": "1"}]},
            {"from": "function", "value": "42"},
            {"role": "assistant", "content": "42."},
        ],
    }
    assert ConvertToChatML()(row) == {
        "id": 1,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi", "name": "Ann"},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
            {"role": "tool", "content": "42"},
            {"role": "assistant", "content": "42."},
        ],
    }
    assert ConvertToChatML("chat", "chat", {"a": "user"}, use_default_mapping=False)(
        {"chat": [{"from": "a", "value": "x"}, {"from": "gpt", "value": "y"}]}
    ) == {"chat": [{"role": "user", "content": "x"}, {"role": "gpt", "content": "y"}]}
    assert ConvertToChatML()({"text": "none here"}) == {"text": "none here"}


def test_pairs_become_turns() -> None:
    convert = ConvertInputOutputToChatML(user_role="human")
    assert convert({"conversation": [{"input": "a", "output": "b"}], "n": 1}) == {
        "n": 1,
        "messages": [{"role": "human", "content": "a"}, {"role": "assistant", "content": "b"}],
    }
    assert convert({"n": 1}) == {"n": 1}


@pytest.mark.parametrize(
    ("transform", "row"),
    [
        (ConvertToChatML(), {"conversations": "text"}),
        (ConvertToChatML(), {"conversations": None}),
        (ConvertToChatML(), {"conversations": [{"value": "x"}]}),
        (ConvertInputOutputToChatML(), {"conversation": [{"input": "x"}]}),
    ],
)
def test_what_is_no_conversation_names_its_row(transform, row) -> None:
    source = MemoryShardedSource([{"other": 1}, row], name="mine").transform(transform)
    with pytest.raises(DataFormatError, match=r"file: mine\n  row: 1\n  column: conversation"):
        list(source.rows())


@pytest.mark.parametrize(
    "build",
    [
        lambda: MapField("a"),
        lambda: MapField("a", str, fn=str),
        lambda: CombineFields(["a"]),
        lambda: CombineFields(["a"], "t", fields=["b"]),
        lambda: CombineFields("ab", "t"),
        lambda: FilterByField("a"),
        lambda: FilterNonEmpty("a"),
        lambda: ExtractField("", "t"),
        lambda: ExtractField("a[b", "t"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_at_once(build) -> None:
    with pytest.raises(DataError):
        build()


def test_they_chain_keep_lengths_and_positions() -> None:
    class Twice(ExpandTransform):
        def __call__(self, row):
            yield row
            yield {**row, "again": True}

    rows = [{"a": i, "b": str(i)} for i in range(30)]
    mapped = MemoryShardedSource(rows).transform(AddField("c", 1)).transform(MapField("a", str))
    assert len(mapped) == 30  # exactly one row each
    # Expanding stages may stand anywhere in a chain (upstream gave on a generator, or failed).
    chain = FilterByField("a", lambda a: a % 3) >> Twice() >> CombineFields(["a", "b"], "t") >> SelectFields(["t"])
    source = MemoryShardedSource(rows).transform(chain)
    whole = list(source)
    assert len(whole) == 40
    stream = source.rows()
    head = list(islice(stream, 17))
    assert head + list(source.rows(stream.state())) == whole
