"""Rows as TRL 1.16 itself prepared them: token for token, label for label.

No difference is allowed in these cases. Where ours differs from TRL on purpose, `test_sft_against_trl` says so.
"""

import numpy as np
import pytest
from easydel_transforms import SFTPreprocessTransform


def prepare(tokenizer, case, read_jsonl):
    rows = read_jsonl(case["rows"])[: case["n_rows"]]
    options = case["options"]
    transform = SFTPreprocessTransform(
        tokenizer,
        options.get("max_length", 1024),
        assistant_only_loss=options.get("assistant_only_loss", False),
    )
    return transform.transform_batch(rows), transform.report


def check(outputs, expected):
    assert sum(len(output) for output in outputs) == len(expected)
    for row in expected:
        (output,) = outputs[row["row"]]
        assert output["input_ids"].tolist() == row["input_ids"]
        assert output["labels"].tolist() == row["labels"]


def test_rows_equal_trls(sft_case, own_tokenizer, golden, read_jsonl):
    if sft_case["chat_template"]:
        own_tokenizer.chat_template = (golden / sft_case["chat_template"]).read_text(encoding="utf-8")
    outputs, _ = prepare(own_tokenizer, sft_case, read_jsonl)
    check(outputs, read_jsonl(f"tokenized/{sft_case['name']}.jsonl"))


def test_assistant_masks_need_no_marks_in_the_template(tokenizer, read_jsonl):
    case = {"rows": "rows/messages.jsonl", "n_rows": 20, "options": {"assistant_only_loss": True}}
    assert "generation %}" not in tokenizer.chat_template
    outputs, report = prepare(tokenizer, case, read_jsonl)
    check(outputs, read_jsonl("tokenized/smollm2_sft_messages_assistant_only.jsonl"))
    assert report.counts == {}


def test_cut_rows_equal_trls_collated_batch(sft_case, own_tokenizer, read_jsonl):
    collated = sft_case.get("collated_first_4")
    if collated is None:
        assert "max_length" not in sft_case["options"]
        return
    outputs, _ = prepare(own_tokenizer, sft_case, read_jsonl)
    for index, (output,) in enumerate(outputs[:4]):
        real = np.array(collated["attention_mask"][index], bool)
        assert output["input_ids"].tolist() == np.array(collated["input_ids"][index])[real].tolist()
        assert output["labels"].tolist() == np.array(collated["labels"][index])[real].tolist()


def test_every_cut_row_is_counted(tokenizer, read_jsonl):
    case = {"rows": "rows/messages.jsonl", "n_rows": 20, "options": {"max_length": 40}}
    outputs, report = prepare(tokenizer, case, read_jsonl)
    assert {len(output["input_ids"]) for (output,) in outputs} == {40}
    assert (report.rows, report.counts) == (20, {"truncated": 20})


@pytest.mark.parametrize("name", ["messages", "prompt_completion", "conversations", "tools", "text", "unpaired_text"])
def test_all_golden_rows_go_through(tokenizer, read_jsonl, name):
    rows = read_jsonl(f"rows/{name}.jsonl")
    outputs = SFTPreprocessTransform(tokenizer).transform_batch(rows)
    assert [len(output) for output in outputs] == [1] * len(rows)
