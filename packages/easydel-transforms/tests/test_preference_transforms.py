import numpy as np
import pytest
from easydata_sources import MemoryShardedSource, TransformedShardedSource
from easydata_sources.errors import RowError
from easydata_tokenize import SavedSetDiffersError, save_dataset
from easydel_transforms import (
    BCOPreprocessTransform,
    DPOPreprocessTransform,
    GRPOPreprocessTransform,
    KTOPreprocessTransform,
    LengthBudgets,
    RewardPreprocessTransform,
)
from easydel_transforms.shared_prompt import split_messages, split_strings
from hypothesis import given
from hypothesis import strategies as st

USER = {"role": "user", "content": "What is the sky?"}
SYSTEM = {"role": "system", "content": "Answer in one word."}
BLUE = {"role": "assistant", "content": "Blue."}
RED = {"role": "assistant", "content": "Red."}


def one(transform, row):
    outputs = transform.transform_batch([row])[0]
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in outputs[0].items()}


# The prompt that answers share.


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected"),
    [
        ("Sky? Blue.", "Sky? Red.", ("Sky?", " Blue.", " Red.")),
        ("same", "same", ("", "same", "same")),
        ("the same", "the same", ("the", " same", " same")),
        ("It is blue", "It is blue and green", ("It is", " blue", " blue and green")),
        ("blue ", "red", ("", "blue ", "red")),
        ("", "red", ("", "", "red")),
        ("", "", ("", "", "")),
    ],
)
def test_strings_are_split_where_they_differ(chosen, rejected, expected):
    assert split_strings(chosen, rejected) == expected


@given(st.text("ab ", max_size=8), st.text("ab ", max_size=8))
def test_nothing_is_lost_by_splitting(chosen, rejected):
    prompt, first, second = split_strings(chosen, rejected)
    assert (prompt + first, prompt + second) == (chosen, rejected)
    assert bool(first) == bool(chosen)
    assert bool(second) == bool(rejected)


def test_messages_keep_an_answer_each():
    assert split_messages([USER, BLUE], [USER, RED]) == ([USER], [BLUE], [RED])
    assert split_messages([USER, BLUE], [USER, BLUE]) == ([USER], [BLUE], [BLUE])
    assert split_messages([USER, BLUE], [USER, BLUE, USER, RED]) == ([USER], [BLUE], [BLUE, USER, RED])
    assert split_messages([BLUE], [RED]) == ([], [BLUE], [RED])


# Layouts: all of these say the same.


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [USER], "chosen": [BLUE], "rejected": [RED]},
        {"chosen": [USER, BLUE], "rejected": [USER, RED]},
        {"prompt": [USER], "chosen": [USER, BLUE], "rejected": [USER, RED]},
        {"prompt": USER["content"], "chosen": [USER, BLUE], "rejected": [USER, RED]},
        {"prompt": USER["content"], "chosen": [BLUE], "rejected": [RED]},
        {"prompt": [USER], "chosen": "Blue.", "rejected": "Red."},
        {"prompt": [USER], "chosen": "Blue.", "rejected": [RED], "score": 3, "messages": None},
        {"prompt": None, "chosen": [USER, BLUE], "rejected": [USER, RED]},
    ],
)
def test_every_layout_of_a_pair_gives_the_same_tokens(tokenizer, row):
    ours = one(DPOPreprocessTransform(tokenizer), row)
    asked = tokenizer.apply_chat_template([USER], add_generation_prompt=True, return_dict=False)
    assert ours["prompt_ids"] == asked
    for name, answer in (("chosen", BLUE), ("rejected", RED)):
        whole = tokenizer.apply_chat_template([USER, answer], return_dict=False)
        assert ours["prompt_ids"] + ours[f"{name}_ids"] == whole


def test_a_string_prompt_of_a_long_conversation_is_its_question_not_its_beginning(tokenizer):
    row = {"prompt": "And the sea?", "chosen": [USER, BLUE, USER, BLUE], "rejected": [USER, BLUE, USER, RED]}
    ours = one(DPOPreprocessTransform(tokenizer), row)
    assert ours["prompt_ids"] == tokenizer.apply_chat_template(
        [USER, BLUE, USER], add_generation_prompt=True, return_dict=False
    )


def test_strings_end_in_one_stop_token(tokenizer):
    ours = one(DPOPreprocessTransform(tokenizer), {"prompt": "1 + 1 =", "chosen": " 2", "rejected": " 3<|im_end|>"})
    assert ours == {"prompt_ids": [33, 1232, 216, 33, 446], "chosen_ids": [216, 34, 2], "rejected_ids": [216, 35, 2]}


def test_tools_and_template_variables_reach_the_template(own_tokenizer):
    own_tokenizer.chat_template = (
        "{{ mood }}{% if tools %}{{ tools[0].name }}{% endif %}"
        "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>{% endif %}"
    )
    row = {"prompt": [USER], "chosen": [BLUE], "rejected": [RED]}
    row |= {"tools": [{"name": "look"}], "chat_template_kwargs": {"mood": "calm"}}
    text = own_tokenizer.decode(one(DPOPreprocessTransform(own_tokenizer), row)["prompt_ids"])
    assert text == "calmlook<|im_start|>What is the sky?<|im_end|><|im_start|>"


def test_columns_missing_are_named_with_a_line_that_mends_it(tokenizer):
    with pytest.raises(RowError) as caught:
        DPOPreprocessTransform(tokenizer).transform_batch([{"good": "a", "bad": "b"}])
    text = str(caught.value)
    assert "Dataset must have column 'chosen' and column 'rejected'" in text
    assert "good (str), bad (str)" in text
    assert 'dataset.map(lambda row: {"chosen": row["good"], "rejected": row["bad"]})' in text


@pytest.mark.parametrize(
    ("transform", "row"),
    [
        (DPOPreprocessTransform, {"chosen": [USER, BLUE], "rejected": [USER, RED]}),
        (KTOPreprocessTransform, {"prompt": [USER], "completion": [BLUE], "label": True}),
        (GRPOPreprocessTransform, {"prompt": [USER]}),
    ],
)
def test_images_beside_the_text_are_refused_and_not_ignored(tokenizer, transform, row):
    with pytest.raises(RowError, match="text alone is trained"):
        transform(tokenizer).transform_batch([{**row, "images": ["cat.png"]}])


# Single answers.


def test_a_pair_becomes_two_rows_side_by_side(tokenizer):
    rows = [
        {"prompt": [USER], "chosen": [BLUE], "rejected": [RED]},
        {"prompt": [USER], "completion": [BLUE], "label": True},
        {"prompt": "The sky is", "completion": " red.", "label": 0},
    ]
    outputs = KTOPreprocessTransform(tokenizer).transform_batch(rows)
    assert [[output["label"] for output in row] for row in outputs] == [[True, False], [True], [False]]
    (good, bad), (alone,), (text,) = outputs
    assert good["source_row"] == bad["source_row"]
    assert len({good["source_row"], alone["source_row"], text["source_row"]}) == 3
    assert good["completion_ids"].tolist() == alone["completion_ids"].tolist()


def test_halves_of_a_pair_stay_known_as_such_once_tokenized(tokenizer):
    row = {"prompt": [USER], "chosen": [BLUE], "rejected": [RED]}
    (first,) = KTOPreprocessTransform(tokenizer).transform_batch([row])
    again = KTOPreprocessTransform(tokenizer).transform_batch(first)
    assert [output["source_row"] for (output,) in again] == [output["source_row"] for output in first]


def test_a_label_that_is_a_rating_is_refused(tokenizer):
    with pytest.raises(RowError, match="neither true nor false"):
        BCOPreprocessTransform(tokenizer).transform_batch([{"prompt": "a", "completion": "b", "label": 0.7}])


# Lengths.


def test_budgets_larger_than_the_whole_are_refused_with_the_three_numbers(tokenizer):
    with pytest.raises(ValueError, match=r"\(512\).*\(600\).*\(1024\)"):
        DPOPreprocessTransform(tokenizer, max_length=1024, max_prompt_length=512, max_completion_length=600)


def test_a_prompt_is_cut_on_its_left_and_keeps_its_system_turn(tokenizer):
    question = {"role": "user", "content": "Why? " * 50 + "Because of the colour of the sky."}
    row = {"prompt": [SYSTEM, question], "chosen": [BLUE], "rejected": [RED]}
    transform = DPOPreprocessTransform(tokenizer, max_prompt_length=40, max_completion_length=8)
    ours = one(transform, row)
    text = tokenizer.decode(ours["prompt_ids"])
    assert len(ours["prompt_ids"]) == 40
    assert text.startswith("<|im_start|>system\nAnswer in one word.<|im_end|>\n")
    assert text.endswith("of the colour of the sky.<|im_end|>\n<|im_start|>assistant\n")
    assert transform.report.counts == {"prompt_truncated": 1}


def test_a_cut_prompt_keeps_the_system_turn_that_the_template_wrote(tokenizer):
    question = {"role": "user", "content": "Why? " * 50 + "Because of the colour of the sky."}
    row = {"prompt": [question], "chosen": [BLUE], "rejected": [RED]}
    ours = one(DPOPreprocessTransform(tokenizer, max_prompt_length=64, max_completion_length=8), row)
    text = tokenizer.decode(ours["prompt_ids"])
    assert len(ours["prompt_ids"]) == 64
    assert text.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face")
    assert "<|im_end|>\n<|im_start|>user\n" in text
    assert text.endswith("of the colour of the sky.<|im_end|>\n<|im_start|>assistant\n")


def test_an_answer_is_cut_on_its_right_with_or_without_its_stop_token(tokenizer):
    row = {"prompt": "Count:", "chosen": " one two three four five six", "rejected": " no"}
    for keep in (False, True):
        transform = DPOPreprocessTransform(
            tokenizer, max_prompt_length=8, max_completion_length=3, keep_stop_token=keep
        )
        chosen = one(transform, row)["chosen_ids"]
        assert len(chosen) == 3
        assert (chosen[-1:] == [2]) == keep
        assert transform.report.counts == {"completion_truncated": 1}


def test_a_prompt_that_fills_the_row_drops_it(tokenizer):
    transform = DPOPreprocessTransform(tokenizer, max_length=4)
    assert transform.transform_batch([{"prompt": "one two three four five", "chosen": "a", "rejected": "b"}]) == [[]]
    assert transform.report.counts == {"dropped_prompt_too_long": 1}


def test_reward_rows_that_are_too_long_are_dropped_not_cut(tokenizer):
    transform = RewardPreprocessTransform(tokenizer, max_length=6)
    rows = [
        {"prompt": "Count:", "chosen": " one two three four five six", "rejected": " no", "margin": 1},
        {"prompt": "Count:", "chosen": " one", "rejected": " no", "margin": 0.5},
    ]
    first, (second,) = transform.transform_batch(rows)
    assert (first, second["margin"]) == ([], 0.5)
    assert transform.report.counts == {"dropped_too_long": 1}


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 12), st.integers(1, 12), st.integers(0, 12))
def test_parts_stay_within_their_budgets(prompt, completion, most_prompt, most_completion, front):
    budgets = LengthBudgets(max_prompt_length=most_prompt, max_completion_length=most_completion)
    asked = budgets.prompt(np.arange(prompt, dtype=np.int32), min(front, prompt))
    answer = budgets.completion(np.arange(completion, dtype=np.int32), len(asked), stop=None)
    assert len(asked) == min(prompt, most_prompt)
    assert len(answer) == min(completion, most_completion)
    assert asked[-1] == prompt - 1
    assert answer.tolist() == list(range(len(answer)))


# What is odd is counted.


def test_answers_that_are_equal_or_empty_are_counted(tokenizer):
    transform = DPOPreprocessTransform(tokenizer)
    rows = [
        {"prompt": "Sky?", "chosen": " Blue.", "rejected": " Blue."},
        {"prompt": "Sky?", "chosen": "", "rejected": " Blue."},
        {"prompt_ids": [1], "chosen_ids": [], "rejected_ids": [2]},
    ]
    outputs = transform.transform_batch(rows)
    assert [len(row) for row in outputs] == [1, 1, 0]
    assert outputs[1][0]["chosen_ids"].tolist() == [2]  # an empty answer still ends
    assert transform.report.counts == {"identical_pair": 1, "dropped_empty": 1}


# Prompts to continue.


def test_prompts_keep_every_other_column_and_their_own_form(tokenizer):
    rows = [
        {"prompt": [USER], "answer": "Blue", "level": 3},
        {"prompt": "The sky is", "answer": "blue"},
        {"chosen": [USER, BLUE], "rejected": [USER, RED]},
        {"chosen": "Sky? Blue.", "rejected": "Sky? Red."},
    ]
    outputs = [output for (output,) in GRPOPreprocessTransform(tokenizer).transform_batch(rows)]
    assert [output["prompt"] for output in outputs] == [[USER], "The sky is", [USER], "Sky?"]
    assert outputs[0]["level"] == 3
    assert tokenizer.decode(outputs[0]["prompt_ids"]).endswith("<|im_start|>assistant\n")
    assert tokenizer.decode(outputs[1]["prompt_ids"]) == "The sky is"
    assert outputs[0]["prompt_ids"].tolist() == outputs[2]["prompt_ids"].tolist()


def test_an_assistants_last_turn_is_continued(tokenizer):
    row = {"prompt": [USER, {"role": "assistant", "content": "It is"}]}
    text = tokenizer.decode(one(GRPOPreprocessTransform(tokenizer), row)["prompt_ids"])
    assert text.endswith("<|im_start|>assistant\nIt is")


def test_an_empty_prompt_is_dropped_and_counted(tokenizer):
    transform = GRPOPreprocessTransform(tokenizer)
    assert transform.transform_batch([{"prompt": ""}]) == [[]]
    assert transform.report.counts == {"dropped_empty": 1}


# Around the transforms.


@pytest.mark.parametrize("kind", [DPOPreprocessTransform, KTOPreprocessTransform, RewardPreprocessTransform])
def test_tokenized_rows_pass_through_unchanged(tokenizer, read_jsonl, kind):
    rows = read_jsonl("rows/preference_margin.jsonl")[:8]
    once = [output for outputs in kind(tokenizer).transform_batch(rows) for output in outputs]
    twice = [output for outputs in kind(tokenizer).transform_batch(once) for output in outputs]
    assert len(once) == len(twice)
    for first, second in zip(once, twice, strict=True):
        assert first.keys() == second.keys()
        for name in first:
            assert np.array_equal(first[name], second[name])


@pytest.mark.parametrize("number", [2**32 + 5, 2**31, -5])
def test_token_ids_that_are_none_are_refused_with_their_row_and_column(tokenizer, number):
    row = {"prompt_ids": [1, 2], "chosen_ids": [3, number], "rejected_ids": [4, 5]}
    with pytest.raises(RowError, match=f"column: chosen_ids\n  found: {number} at position 1") as caught:
        DPOPreprocessTransform(tokenizer).transform_batch([{**row, "chosen_ids": [3]}, row])
    assert caught.value.row_in_batch == 1


def test_explain_shows_what_is_trained(tokenizer):
    shown = DPOPreprocessTransform(tokenizer).explain({"prompt": "1 + 1 =", "chosen": " 2", "rejected": " 3"})
    assert [view.text for view in shown["chosen"] if view.trained] == [" ", "2", "<|im_end|>"]
    assert [view.text for view in shown["rejected"] if not view.trained] == ["1", " +", " ", "1", " ="]


def test_a_stream_of_expanded_rows_resumes(tokenizer, read_jsonl):
    source = TransformedShardedSource(
        MemoryShardedSource(read_jsonl("rows/preference.jsonl")), KTOPreprocessTransform(tokenizer)
    )
    stream = source.rows()
    for _ in range(7):
        next(stream)
    rest = [row["completion_ids"].tolist() for row in source.rows(stream.state())]
    assert rest == [row["completion_ids"].tolist() for row in source.rows()][7:]


def test_a_saved_set_is_refused_to_a_transform_of_other_lengths(tmp_path, tokenizer):
    rows = [{"prompt": "Sky?", "chosen": " Blue.", "rejected": " Red."}]

    def saved(transform):
        return save_dataset(MemoryShardedSource(rows).transform(transform), tmp_path)

    saved(DPOPreprocessTransform(tokenizer, max_length=64))
    saved(DPOPreprocessTransform(tokenizer, max_length=64))
    with pytest.raises(SavedSetDiffersError, match=r"transforms\[0\]\.max_length: 64 then, 32 now"):
        saved(DPOPreprocessTransform(tokenizer, max_length=32))
    with pytest.raises(SavedSetDiffersError, match=r"transforms\[0\]\.name: 'DPO"):
        saved(KTOPreprocessTransform(tokenizer, max_length=64))
