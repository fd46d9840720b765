"""Messages: roles, nulls of Arrow structs, tools and tool arguments."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from easydata_sources import JsonShardedSource, ParquetShardedSource
from easydata_sources.errors import DataFormatError
from easydata_tokenize import read_messages, read_template_kwargs, read_tools
from easydata_tokenize.conversation import with_arguments_as


def call(arguments):
    return {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add", "arguments": arguments}}]}


def test_from_value_messages_get_the_roles_templates_know():
    said = [("system", "s"), ("human", "a"), ("gpt", "b"), ("User", "c"), ("assistant", "d"), ("observation", "e")]
    messages = read_messages([{"from": who, "value": what} for who, what in said], column="conversations")
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "user", "assistant", "tool"]
    assert [m["content"] for m in messages] == ["s", "a", "b", "c", "d", "e"]


def test_role_messages_keep_their_role():
    assert read_messages([{"role": "ipython", "content": "1"}], column="messages")[0]["role"] == "ipython"


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ({"type": "image"}, "an image"),
        ({"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}, "an image"),
        ({"type": "video", "video": "cat.mp4"}, "a video"),
        ({"type": "input_audio", "input_audio": {}}, "a sound"),
    ],
)
def test_parts_that_are_no_text_are_refused_with_their_place(part, named):
    messages = [
        {"role": "user", "content": "Hello"},
        {"role": "user", "content": [{"type": "text", "text": "What is it?"}, part]},
    ]
    with pytest.raises(DataFormatError, match=rf"holds {named}, and text alone is trained") as refused:
        read_messages(messages, column="messages")
    assert refused.value.column == "messages[1].content[1]"
    messages[1]["content"].pop()
    assert read_messages(messages, column="messages") == messages


def test_nulls_that_arrow_filled_in_are_removed_at_every_depth():
    rows = [
        {"role": "user", "content": "add", "tool_calls": None},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}]},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "neg", "arguments": {"b": 2}}}]},
    ]
    filled = pa.array(rows).to_pylist()
    assert filled[1]["tool_calls"][0]["function"]["arguments"] == {"a": 1, "b": None}
    assert read_messages(filled, column="messages") == [{"role": "user", "content": "add"}] + [
        {"role": "assistant", "content": None, "tool_calls": row["tool_calls"]} for row in rows[1:]
    ]


def test_nulls_that_are_data_stay_in_tool_calls_and_schemas(tmp_path):
    """Rows of JSON lines keep them; the same rows out of Parquet, where every struct is padded, cannot."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {"default": None, "enum": ["a", None]}}}
    messages = [
        {"role": "user", "content": "weather", "name": None},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"city": "Ulm", "unit": None}}}]},
    ]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": messages, "tools": [tool]}) + "\n")
    (row,) = JsonShardedSource(str(tmp_path / "rows.jsonl")).rows()
    read = read_messages(row["messages"], column="messages")
    assert read[0] == {"role": "user", "content": "weather"}
    assert read[1]["tool_calls"] == messages[1]["tool_calls"]
    assert read_tools(row["tools"]) == read_tools(json.dumps([tool])) == [tool]

    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "rows.parquet")
    (padded,) = ParquetShardedSource(str(tmp_path / "rows.parquet")).rows()
    call = read_messages(padded["messages"], column="messages")[1]["tool_calls"][0]
    assert call == {"function": {"name": "f", "arguments": {"city": "Ulm"}}}
    assert read_tools(padded["tools"])[0]["function"]["parameters"] == {"enum": ["a", None]}


def test_the_row_is_not_changed():
    row = [call('{"a": null}')]
    read_messages(row, column="messages")
    assert row == [call('{"a": null}')]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("hello", "not a list of messages"),
        (["hello"], "messages[0]"),
        ([{"content": "x"}], "no role"),
        ([{"role": "user", "content": None}], "no content"),
        ([{"role": "assistant", "content": None}], "no content"),
        ([{"from": "martian", "value": "x"}], "'martian'"),
        ([{**call({}), "tool_calls": [{"function": {"arguments": {}}}]}], "messages[0].tool_calls[0]"),
        ([{**call({}), "tool_calls": [{"name": "f"}, {"function": {"name": None}}]}], "tool_calls[1]"),
        ([{**call({}), "tool_calls": ["f"]}], "has no name"),
        ([call('{"a": ')], "not JSON"),
        ([{"role": "assistant", "function_call": {"name": "f", "arguments": "{a}"}}], "messages[0].function_call"),
    ],
)
def test_what_is_no_conversation_raises_and_says_where(value, message):
    with pytest.raises(DataFormatError) as caught:
        read_messages(value, column="messages")
    assert message in str(caught.value)


@pytest.mark.parametrize("value", [None, [], "", "[]"])
def test_no_tools_are_none(value):
    assert read_tools(value) is None


def test_tools_may_be_a_list_or_json():
    tool = {"type": "function", "function": {"name": "add"}}
    assert read_tools([tool]) == read_tools('[{"type": "function", "function": {"name": "add"}}]') == [tool]


@pytest.mark.parametrize("value", ["[{", {"name": "add"}])
def test_broken_tools_raise(value):
    with pytest.raises(DataFormatError, match="tools"):
        read_tools(value)


def test_template_kwargs_are_a_dict_without_nulls():
    assert read_template_kwargs(None) == {}
    assert read_template_kwargs({"enable_thinking": False, "other": None}) == {"enable_thinking": False}
    with pytest.raises(DataFormatError, match="chat_template_kwargs"):
        read_template_kwargs("x")


def test_arguments_are_converted_both_ways_and_nulls_inside_json_stay():
    as_text, as_dict = '{"a": 1, "b": null}', {"a": 1, "b": None}
    assert with_arguments_as([call(as_text)], dict) == [call(as_dict)]
    assert with_arguments_as([call(as_dict)], str) == [call(as_text)]
    assert with_arguments_as([call("not json")], dict) == [call("not json")]
