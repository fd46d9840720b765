"""SFTPreprocessTransform: what is trained, what is dropped, what is counted, what raises."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from easydata_sources.errors import DataFormatError, DataQualityError, RowError
from easydata_sources.report import DataReport
from easydata_tokenize import GreedyPacker
from easydel_transforms import SFTPreprocessTransform
from hypothesis import given, settings
from hypothesis import strategies as st

USER, ANSWER = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}
CHAT = {"messages": [USER, ANSWER]}
PAIR = {"prompt": [USER], "completion": [ANSWER]}


def trained(transform, row):
    return "".join(token.text for token in transform.explain(row) if token.trained)


@pytest.mark.parametrize(
    ("options", "row", "text"),
    [
        ({}, PAIR, "A<|im_end|>\n"),
        ({"completion_only_loss": True}, PAIR, "A<|im_end|>\n"),
        ({"assistant_only_loss": True}, PAIR, "A<|im_end|>"),
        ({"assistant_only_loss": True, "completion_only_loss": False}, PAIR, "A<|im_end|>"),
        ({"assistant_only_loss": True}, CHAT, "A<|im_end|>"),
        ({}, {"prompt": "Q", "completion": " A"}, " A<|im_end|>"),
        ({}, {"text": "a b"}, "a b<|im_end|>"),
        ({}, {"text": "a b<|im_end|>"}, "a b<|im_end|>"),
        ({"dataset_text_field": "body"}, {"body": "a", "messages": CHAT["messages"]}, "a<|im_end|>"),
    ],
)
def test_trained_part(tokenizer, options, row, text):
    assert trained(SFTPreprocessTransform(tokenizer, **options), row) == text


@pytest.mark.parametrize(("row", "loss"), [(CHAT, None), (PAIR, False), ({"prompt": "Q", "completion": "A"}, False)])
def test_all_tokens_are_trained_without_a_mask(tokenizer, row, loss):
    output = SFTPreprocessTransform(tokenizer, completion_only_loss=loss)(row)
    assert output["labels"].tolist() == output["input_ids"].tolist()


def test_in_a_prompt_with_old_answers_both_masks_hold(tokenizer):
    old = {"prompt": [USER, {"role": "assistant", "content": "old"}, USER], "completion": [ANSWER]}
    assert trained(SFTPreprocessTransform(tokenizer, assistant_only_loss=True), old) == "A<|im_end|>"


def test_output_is_exactly_two_int32_arrays_of_one_length(tokenizer):
    output = SFTPreprocessTransform(tokenizer)({**PAIR, "source": "x", "id": 3})
    assert list(output) == ["input_ids", "labels"]
    assert {value.dtype for value in output.values()} == {np.dtype(np.int32)}
    assert len({len(value) for value in output.values()}) == 1


@pytest.mark.parametrize(
    ("row", "options", "labels"),
    [
        ({"input_ids": [5, 6, 7]}, {}, [5, 6, 7]),
        ({"input_ids": [5, 6, 7], "labels": [-100, 6, -100]}, {}, [-100, 6, -100]),
        ({"input_ids": [5, 6, 7], "completion_mask": [0, 1, 1]}, {}, [-100, 6, 7]),
        ({"input_ids": [5, 6, 7], "completion_mask": [0, 1, 1]}, {"completion_only_loss": False}, [5, 6, 7]),
        ({"input_ids": [5, 6, 7], "assistant_masks": [0, 0, 1]}, {}, [-100, -100, 7]),
        ({"input_ids": [5, 6, 7], "completion_mask": [0, 1, 1], "assistant_masks": [1, 1, 0]}, {}, [-100, 6, -100]),
        ({"input_ids": [5, 6, 2, 2], "attention_mask": [1, 1, 1, 0]}, {}, [5, 6, 2]),
    ],
)
def test_tokenized_rows_are_brought_to_the_same_form(tokenizer, row, options, labels):
    assert SFTPreprocessTransform(tokenizer, **options)(row)["labels"].tolist() == labels


def test_preparing_prepared_rows_changes_nothing(tokenizer):
    transform = SFTPreprocessTransform(tokenizer)
    once = transform(PAIR)
    twice = transform(once)
    assert twice["input_ids"].tolist() == once["input_ids"].tolist()
    assert twice["labels"].tolist() == once["labels"].tolist()


def test_long_rows_are_cut_counted_and_dropped_if_nothing_is_left_to_train(tokenizer):
    report = DataReport(thresholds={"fully_masked": 1})
    transform = SFTPreprocessTransform(tokenizer, max_length=4, report=report)
    rows = [{"prompt": "a b c d e", "completion": " f"}, {"text": "a b c d e"}, {"text": "a"}]
    outputs = transform.transform_batch(rows)
    assert [len(output) for output in outputs] == [0, 1, 1]
    assert outputs[1][0]["input_ids"].tolist() == tokenizer.backend_tokenizer.encode("a b c d").ids
    assert (report.rows, report.counts) == (3, {"truncated": 2, "fully_masked": 1})
    assert "a b c d e" in report.to_dict()["examples"]["fully_masked"]


def test_keep_end_cuts_the_start(tokenizer):
    transform = SFTPreprocessTransform(tokenizer, 3, truncation_mode="keep_end")
    assert "".join(token.text for token in transform.explain({"text": "a b c d e"})) == " d e<|im_end|>"


def test_no_max_length_cuts_nothing(tokenizer):
    assert len(SFTPreprocessTransform(tokenizer, None)({"text": "a " * 3000})["input_ids"]) > 3000


@pytest.mark.parametrize("row", [{"text": ""}, {"messages": []}, {"input_ids": []}, {"prompt": "", "completion": ""}])
def test_empty_rows_are_dropped_and_counted(tokenizer, row):
    transform = SFTPreprocessTransform(tokenizer)
    assert transform.transform_batch([row, CHAT])[0] == []
    assert transform.report.counts == {"dropped_empty": 1}
    assert transform.explain(row) == []


def test_too_many_fully_masked_rows_raise(tokenizer):
    transform = SFTPreprocessTransform(tokenizer, max_length=3)
    with pytest.raises(DataQualityError, match="fully_masked"):
        transform.transform_batch([{"prompt": "a b c d e", "completion": " f"}] * 200)


def test_a_doubled_bos_raises_at_once(own_tokenizer):
    own_tokenizer.chat_template = "{{ bos_token }}{{ bos_token }}{{ messages[0]['content'] }}{{ eos_token }}"
    with pytest.raises(DataQualityError, match="doubled_bos"):
        SFTPreprocessTransform(own_tokenizer).transform_batch([CHAT])


@pytest.mark.parametrize(
    ("options", "row", "message"),
    [
        ({}, {"question": "a", "answer": "b"}, "dataset.map"),
        ({}, {"chosen": "a", "rejected": "b"}, "no layout"),
        ({"dataset_text_field": "body"}, {"text": "a"}, "'body'"),
        ({"completion_only_loss": True}, CHAT, "where its completion begins"),
        ({"completion_only_loss": True}, {"input_ids": [1, 2]}, "where its completion begins"),
        ({"assistant_only_loss": True}, {"messages": [USER]}, "the assistant says nothing"),
        ({"assistant_only_loss": True}, {"text": "a"}, "plain text"),
        ({"assistant_only_loss": True}, {"input_ids": [1, 2]}, "marks no assistant token"),
        ({"assistant_only_loss": True, "max_length": 2}, {"messages": [USER]}, "the assistant says nothing"),
    ],
)
def test_a_bad_row_raises_with_its_place_in_the_batch(tokenizer, options, row, message):
    good = {"input_ids": [1, 2, 3], "labels": [1, 2, 3]}
    if "dataset_text_field" in options:
        good = {"body": "a"}
    with pytest.raises(RowError, match=message) as caught:
        SFTPreprocessTransform(tokenizer, **options).transform_batch([good, good, row, good])
    assert caught.value.row_in_batch == 2
    assert "mend:" in str(caught.value)


def test_conversations_without_a_chat_template_raise_and_instructions_become_text(own_tokenizer):
    own_tokenizer.chat_template = None
    transform = SFTPreprocessTransform(own_tokenizer)
    with pytest.raises(RowError, match="no chat template"):
        transform.transform_batch([{"text": "a"}, CHAT])
    tokens = transform.explain({"instruction": "I", "input": "X", "output": "A"})
    assert "".join(token.text for token in tokens) == "I\n\nX\n\nA<|im_end|>"
    assert "".join(token.text for token in tokens if token.trained) == "\n\nA<|im_end|>"
    with pytest.raises(DataFormatError, match="no chat template"):
        SFTPreprocessTransform(own_tokenizer, assistant_only_loss=True)


@pytest.mark.parametrize("options", [{"max_length": 0}, {"max_length": 1}, {"truncation_mode": "middle"}])
def test_arguments_out_of_range_raise_at_once(tokenizer, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        SFTPreprocessTransform(tokenizer, **options)


def test_explain_shows_every_token_and_counts_nothing(tokenizer):
    transform = SFTPreprocessTransform(tokenizer)
    views = transform.explain({"prompt": "1 +", "completion": " 1"})
    assert [(view.text, view.trained) for view in views] == [
        ("1", False),
        (" +", False),
        (" ", True),
        ("1", True),
        ("<|im_end|>", True),
    ]
    assert views[-1].token_id == tokenizer.eos_token_id
    assert transform.report.rows == 0


def test_explain_shows_a_row_that_would_be_dropped(tokenizer):
    views = SFTPreprocessTransform(tokenizer, max_length=2).explain({"prompt": "a b c", "completion": " d"})
    assert [view.trained for view in views] == [False, False]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(max_size=8), min_size=1, max_size=5), st.integers(1, 5))
def test_output_does_not_depend_on_how_rows_are_batched(tokenizer, texts, size):
    rows = [{"prompt": "q", "completion": text} for text in texts]
    transform = SFTPreprocessTransform(tokenizer, report=DataReport(thresholds={"fully_masked": 1}))
    whole = transform.transform_batch(rows)
    parts = [output for at in range(0, len(rows), size) for output in transform.transform_batch(rows[at : at + size])]
    assert [[row["labels"].tolist() for row in output] for output in whole] == [
        [row["labels"].tolist() for row in output] for output in parts
    ]


def test_transform_survives_pickling(tokenizer):
    transform = SFTPreprocessTransform(tokenizer, assistant_only_loss=True)
    before = transform(CHAT)
    copy = pickle.loads(pickle.dumps(transform))
    assert copy(CHAT)["labels"].tolist() == before["labels"].tolist()


def test_rows_stream_through_a_source(tokenizer):
    from easydata_sources.combined.transformed import TransformedShardedSource
    from easydata_sources.convert import as_sharded_source

    rows = [CHAT, {"text": ""}, {"text": "a"}, PAIR]
    source = TransformedShardedSource(as_sharded_source(rows), SFTPreprocessTransform(tokenizer))
    assert [len(row["input_ids"]) > 0 for row in source.rows()] == [True] * 3
    bad = TransformedShardedSource(as_sharded_source([CHAT, {"x": 1}]), SFTPreprocessTransform(tokenizer))
    with pytest.raises(DataFormatError, match="row: 1"):
        list(bad.rows())


def test_importing_and_running_needs_no_jax(golden):
    code = (
        "import sys\n"
        "from easydata_tokenize import GreedyPacker, load_tokenizer\n"
        "from easydel_transforms import SFTPreprocessTransform\n"
        "assert not {'transformers', 'pyarrow'} & set(sys.modules)\n"
        f"transform = SFTPreprocessTransform(load_tokenizer({str(golden / 'tokenizer')!r}))\n"
        "assert len(transform({'text': 'a'})['input_ids']) == 2\n"
        "assert not {'jax', 'flax', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_pack_with_padding_keeps_its_segments(tokenizer):
    packer = GreedyPacker(8, eos_token_id=2, pad_token_id=2)
    packer.add([5, 6])
    row = packer.add([7]) or packer.flush_final()
    (output,) = SFTPreprocessTransform(tokenizer).transform_batch([row.to_dict()])[0]
    assert output["input_ids"].tolist() == [5, 6, 2, 7, 2]
    assert output["segment_ids"].tolist() == [1, 1, 1, 2, 2]
