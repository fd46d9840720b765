"""Layout detection: by the columns that are not null, structure before text."""

import pytest
from easydata_sources.errors import DataFormatError
from easydata_tokenize import SFT_LAYOUTS, Layout, detect_layout

CHAT = [{"role": "user", "content": "a"}]


@pytest.mark.parametrize(
    ("row", "layout"),
    [
        ({"text": "a"}, Layout.TEXT),
        ({"messages": CHAT}, Layout.MESSAGES),
        ({"messages": CHAT, "prompt": "a"}, Layout.MESSAGES),
        ({"conversations": [{"from": "human", "value": "a"}]}, Layout.CONVERSATIONS),
        ({"instruction": "a", "output": "b"}, Layout.ALPACA),
        ({"instruction": "a", "input": "", "output": "b", "text": "a b"}, Layout.ALPACA),
        ({"instruction": "a", "context": "c", "response": "b", "category": "x"}, Layout.DOLLY),
        ({"prompt": "a", "completion": "b"}, Layout.PROMPT_COMPLETION),
        ({"prompt": CHAT, "completion": CHAT, "label": True}, Layout.PROMPT_COMPLETION),
        ({"input_ids": [1, 2], "text": "a"}, Layout.TOKENS),
        # What Arrow makes of a mixture: every row has all columns, the foreign ones null.
        ({"messages": None, "text": "a", "input_ids": None}, Layout.TEXT),
        ({"messages": CHAT, "prompt": None, "completion": None, "text": None}, Layout.MESSAGES),
        ({"text": ""}, Layout.TEXT),
    ],
)
def test_sft_row_has_the_layout_of_its_columns(row, layout):
    assert detect_layout(row, SFT_LAYOUTS) is layout


@pytest.mark.parametrize(
    ("row", "accepted", "layout"),
    [
        ({"chosen": CHAT, "rejected": CHAT}, (Layout.PREFERENCE, Layout.UNPAIRED), Layout.PREFERENCE),
        ({"prompt": "a", "completion": "b", "label": False}, (Layout.PREFERENCE, Layout.UNPAIRED), Layout.UNPAIRED),
        ({"prompt": "a", "answer": "42"}, (Layout.PROMPT,), Layout.PROMPT),
    ],
)
def test_layouts_of_the_other_trainers_are_known(row, accepted, layout):
    assert detect_layout(row, accepted) is layout


@pytest.mark.parametrize(
    ("row", "mend"),
    [
        ({"question": "1+1", "answer": "2"}, "{\"prompt\": row['question'], \"completion\": row['answer']}"),
        ({"dialog": CHAT}, "{\"messages\": row['dialog']}"),
        ({"body": "a"}, "dataset_text_field='body'"),
        ({"n": 3}, 'dataset.map(lambda row: {"text": ...})'),
    ],
)
def test_unknown_row_raises_with_columns_formats_and_a_map_line(row, mend):
    with pytest.raises(DataFormatError) as caught:
        detect_layout(row, SFT_LAYOUTS)
    assert all(f"{column} (" in str(caught.value) for column in row)
    assert "messages (messages)" in str(caught.value)
    assert mend in str(caught.value)
