"""Rows to examples: what each layout asks to be trained on."""

import numpy as np
import pytest
from easydata_sources.errors import DataFormatError
from easydata_tokenize import SFT_LAYOUTS, ChatExample, TextExample, TokenExample, read_example


def read(row, *, has_template=True, text_field=None):
    return read_example(row, SFT_LAYOUTS, has_template=has_template, text_field=text_field)


USER, ANSWER = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [USER], "completion": [ANSWER]},
        {"prompt": "Q", "completion": [ANSWER]},
        {"prompt": [USER], "completion": "A"},
        {"instruction": "Q", "output": "A"},
        {"instruction": "Q", "input": None, "output": "A"},
        {"instruction": "Q", "context": "", "response": "A", "text": "ignored"},
    ],
)
def test_prompt_and_answer_become_a_conversation_with_one_prompt_turn(row):
    assert read(row) == ChatExample(messages=[USER, ANSWER], prompt_turns=1)


@pytest.mark.parametrize(
    "row", [{"instruction": "I", "input": "X", "output": "A"}, {"instruction": "I", "context": "X", "response": "A"}]
)
def test_input_or_context_is_joined_by_a_blank_line(row):
    assert read(row).messages[0] == {"role": "user", "content": "I\n\nX"}
    assert read(row, has_template=False) == TextExample(prompt="I\n\nX", text="\n\nA")


def test_messages_and_conversations_have_no_prompt_of_their_own():
    expected = ChatExample(messages=[USER, ANSWER])
    assert read({"messages": [USER, ANSWER]}) == expected
    turns = [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]
    assert read({"conversations": turns}) == expected


def test_side_columns_of_a_conversation_are_read():
    tool = {"type": "function", "function": {"name": "add"}}
    example = read({"messages": [USER], "tools": [tool], "chat_template_kwargs": {"enable_thinking": False}})
    assert (example.tools, example.template_kwargs) == ([tool], {"enable_thinking": False})


def test_naming_a_text_field_forces_the_text():
    assert read({"messages": [USER], "body": "B"}, text_field="body") == TextExample(text="B")
    with pytest.raises(DataFormatError, match="dataset_text_field"):
        read({"messages": [USER]}, text_field="body")


def test_token_rows_keep_their_masks_and_lose_their_padding():
    row = {
        "input_ids": [0, 0, 5, 6, 7],
        "attention_mask": [0, 0, 1, 1, 1],
        "completion_mask": [0, 0, 0, 1, 1],
        "labels": None,
    }
    example = read(row)
    assert isinstance(example, TokenExample)
    assert example.input_ids.tolist() == [5, 6, 7]
    assert example.input_ids.dtype == np.int32
    assert example.completion_mask.tolist() == [False, True, True]
    assert example.labels is None


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"input_ids": [1, 2], "labels": [1]}, "1 values beside 2 input_ids"),
        ({"input_ids": [[1, 2]]}, "shape (1, 2)"),
        ({"input_ids": [0.5]}, "float64"),
        ({"input_ids": [[1], [1, 2]]}, "ragged"),
        ({"text": 3}, "int: 3"),
        ({"prompt": [], "completion": [ANSWER]}, "an empty list"),
    ],
)
def test_wrong_values_raise_and_say_what_was_found(row, found):
    with pytest.raises(DataFormatError) as caught:
        read(row)
    assert found in str(caught.value)
    assert "mend:" in str(caught.value)


@pytest.mark.parametrize("column", ["input_ids", "labels", "completion_mask", "attention_mask"])
@pytest.mark.parametrize("number", [2**32 + 5, 2**31, -(2**31) - 1, 2**62])
def test_numbers_outside_int32_are_refused_and_never_wrapped(column, number):
    """A cast made 2**32 + 5 the token 5, and 2**31 a negative label."""
    row = {"input_ids": [1, 2, 3], "labels": [-100, 2, 3], column: [1, number, 1]}
    with pytest.raises(DataFormatError, match=rf"column: {column}\n  found: {number} at position 1"):
        read(row)
    assert read({"input_ids": [2**31 - 1], "labels": [-(2**31)]}).labels.tolist() == [-(2**31)]
    with pytest.raises(DataFormatError, match="-1 at position 0"):
        read({"input_ids": [-1]})


@pytest.mark.parametrize("row", [{"text": "T"}, {"messages": [USER, ANSWER]}, {"prompt": "Q", "completion": "A"}])
@pytest.mark.parametrize(
    ("column", "value"),
    [("images", [{"bytes": b"", "path": "cat.png"}]), ("image", "cat.png"), ("audio", {"path": "a"})],
)
def test_media_beside_the_text_are_refused_and_not_ignored(row, column, value):
    with pytest.raises(DataFormatError, match="text alone is trained") as caught:
        read({**row, column: value})
    assert f"remove_columns({column!r})" in str(caught.value)


@pytest.mark.parametrize("value", [None, []])
def test_empty_columns_of_media_are_no_media(value):
    assert read({"text": "T", "images": value}) == TextExample(text="T")
