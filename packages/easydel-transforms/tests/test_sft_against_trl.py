"""Where ours differs from TRL on purpose, each with the reason."""

from easydel_transforms import SFTPreprocessTransform


def text_of(transform, row, *, trained_only=False):
    return "".join(token.text for token in transform.explain(row) if token.trained or not trained_only)


def test_human_and_gpt_become_user_and_assistant(tokenizer, read_jsonl):
    """TRL keeps the names; most templates know only user and assistant, and some then render nothing at all."""
    named = read_jsonl("rows/conversations.jsonl")
    plain = read_jsonl("rows/conversations_user.jsonl")
    assert named[0]["conversations"][0]["from"] == "human"
    transform = SFTPreprocessTransform(tokenizer)
    for ours, same in zip(transform.transform_batch(named), transform.transform_batch(plain), strict=True):
        assert ours[0]["input_ids"].tolist() == same[0]["input_ids"].tolist()


def test_eos_is_appended_whatever_the_text_column_is_called(tokenizer):
    """TRL looks for a column named `text`, so with any other dataset_text_field the model never learns to stop."""
    transform = SFTPreprocessTransform(tokenizer, dataset_text_field="content")
    assert text_of(transform, {"content": "a story"}) == "a story<|im_end|>"


def test_prompt_that_merges_with_its_completion_is_cut_on_tokens(tokenizer):
    """TRL warns and cuts by the prompt's own length, which leaves the merged token untrained."""
    transform = SFTPreprocessTransform(tokenizer)
    row = {"prompt": "say hel", "completion": "lo you"}
    assert text_of(transform, row, trained_only=True) == " hello you<|im_end|>"
    transform.transform_batch([row])
    assert transform.report.counts == {"prefix_mismatch": 1}


def test_an_answer_that_begins_with_newlines_is_masked_to_the_letter(tokenizer):
    """TRL masks by the token that holds the first letter, which here is half the template's header."""
    transform = SFTPreprocessTransform(tokenizer, assistant_only_loss=True)
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "\n\nb"}]}
    assert text_of(transform, row, trained_only=True) == "\n\nb<|im_end|>"


def test_a_row_of_one_token_is_dropped(tokenizer):
    """TRL keeps it; nothing can be predicted in it, as nothing comes before its only token."""
    transform = SFTPreprocessTransform(tokenizer)
    assert transform.transform_batch([{"text": "<|im_end|>"}] + [{"text": "a b"}] * 30)[0] == []
    assert transform.report.counts == {"fully_masked": 1}


def test_one_batch_may_mix_layouts(tokenizer):
    """TRL looks at the first row and takes all others for the same."""
    chat = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    rows = [
        {"text": "plain"},
        {"messages": chat, "text": None},
        {"prompt": "Q", "completion": " A"},
        {"instruction": "Q", "input": "", "output": "A", "text": "Q A"},
        {"input_ids": [5, 6, 7]},
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
        {"instruction": "Q", "context": None, "response": "A"},
    ]
    together = SFTPreprocessTransform(tokenizer).transform_batch(rows)
    for row, (output,) in zip(rows, together, strict=True):
        alone = SFTPreprocessTransform(tokenizer)(row)
        assert output["input_ids"].tolist() == alone["input_ids"].tolist()
        assert output["labels"].tolist() == alone["labels"].tolist()
    assert together[1][0]["input_ids"].tolist() == together[5][0]["input_ids"].tolist()
    assert together[3][0]["labels"].tolist() == together[6][0]["labels"].tolist()
