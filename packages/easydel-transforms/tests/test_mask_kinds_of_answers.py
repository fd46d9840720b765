"""Every kind of `mask_kinds.py` in pairs, labelled answers and prompts to continue: alone, in a batch, cut anywhere."""

import copy

import pytest
from easydata_sources import DataReport
from easydel_transforms import DPOPreprocessTransform, GRPOPreprocessTransform, KTOPreprocessTransform

REPORTED = {"missing_stop_token": 1.0}
PROMPT_ENDS = ("<|a|>", "<|a|><think>\n", "<|m|>assistant\n", "<|a|><|r|>", "\n\n<think></think>")
OTHER = [{"role": "assistant", "content": "Other"}]


def pair_of(mask_kind):
    prompt, answer = copy.deepcopy((mask_kind.messages[:-1], mask_kind.messages[-1:]))
    return {"prompt": prompt, "chosen": answer, "rejected": OTHER, **mask_kind.row}


def labelled_of(mask_kind):
    prompt, answer = copy.deepcopy((mask_kind.messages[:-1], mask_kind.messages[-1:]))
    return {"prompt": prompt, "completion": answer, "label": True, **mask_kind.row}


def prompt_of(mask_kind):
    return {"prompt": copy.deepcopy(mask_kind.messages[:-1]), **mask_kind.row}


TRANSFORMS = {
    "DPO": (DPOPreprocessTransform, pair_of, ("prompt_ids", "chosen_ids", "rejected_ids")),
    "KTO": (KTOPreprocessTransform, labelled_of, ("prompt_ids", "completion_ids")),
    "GRPO": (GRPOPreprocessTransform, prompt_of, ("prompt_ids",)),
}
TRAINERS = pytest.mark.parametrize("trainer", TRANSFORMS)


def transformed(trainer, tokenizer, rows, *lengths):
    transform = TRANSFORMS[trainer][0](tokenizer, *lengths, report=DataReport(REPORTED))
    outputs = transform.transform_batch(copy.deepcopy(rows))
    tokens = [{name: row[name].tolist() for name in TRANSFORMS[trainer][2]} for (row,) in outputs]
    return tokens, transform.report.counts


def lost(counts):
    return {reason: count for reason, count in counts.items() if reason.startswith("not_rendered/")}


def test_the_better_answer_of_a_pair_is_trained_and_its_prompt_never(tokenizer_of, mask_kind):
    tokenizer = tokenizer_of(mask_kind.template)
    (row,), counts = transformed("DPO", tokenizer, [pair_of(mask_kind)])
    assert tokenizer.decode(row["chosen_ids"]) == mask_kind.turns[-1] + mask_kind.behind
    assert "Other" in tokenizer.decode(row["rejected_ids"])
    assert lost(counts) == lost(mask_kind.counted)


def test_a_labelled_answer_is_trained_and_its_prompt_never(tokenizer_of, mask_kind):
    tokenizer = tokenizer_of(mask_kind.template)
    (row,), counts = transformed("KTO", tokenizer, [labelled_of(mask_kind)])
    assert tokenizer.decode(row["completion_ids"]) == mask_kind.turns[-1] + mask_kind.behind
    assert lost(counts) == lost(mask_kind.counted)


def test_a_prompt_to_continue_ends_where_the_answer_begins_and_loses_nothing_unsaid(tokenizer_of, masks, mask_kind):
    tokenizer = tokenizer_of(mask_kind.template)
    (row,), counts = transformed("GRPO", tokenizer, [prompt_of(mask_kind)])
    text = tokenizer.decode(row["prompt_ids"])
    if mask_kind.messages[-2]["role"] == "assistant":
        assert text.endswith(mask_kind.messages[-2]["content"])  # it goes on within that answer
    else:
        prompted = "add_generation_prompt" in mask_kind.template
        assert text.endswith(PROMPT_ENDS if prompted else "<|e|>")
    assert lost(counts) == lost(mask_kind.counted if mask_kind.prompt_counted is None else mask_kind.prompt_counted)


@TRAINERS
def test_the_rows_beside_it_change_nothing(tokenizer_of, mask_kind, trainer):
    tokenizer, row_of = tokenizer_of(mask_kind.template), TRANSFORMS[trainer][1]
    short = mask_kind._replace(messages=[*mask_kind.messages, {"role": "user", "content": "other words"}, *OTHER])
    rows = [row_of(short), row_of(mask_kind), row_of(mask_kind), row_of(short)]
    together, _ = transformed(trainer, tokenizer, rows)
    assert together == [transformed(trainer, tokenizer, [row])[0][0] for row in rows]


@TRAINERS
def test_cuts_anywhere_keep_the_end_of_prompts_and_the_beginning_of_answers(tokenizer_of, mask_kind, trainer):
    tokenizer, (_, row_of, names) = tokenizer_of(mask_kind.template), TRANSFORMS[trainer]
    (whole,), _ = transformed(trainer, tokenizer, [row_of(mask_kind)])
    answers = [name for name in names if name != "prompt_ids"]
    longest = max(len(ids) for ids in whole.values())
    for length in range(1, longest + 1):
        (cut,), counts = transformed(trainer, tokenizer, [row_of(mask_kind)], None, length, length)
        for name in answers:
            assert cut[name] == whole[name][:length]
        kept = cut["prompt_ids"]
        assert len(kept) == min(length, len(whole["prompt_ids"]))
        assert kept[len(kept) // 2 :] == whole["prompt_ids"][len(whole["prompt_ids"]) - len(kept) + len(kept) // 2 :]
        assert bool(counts.get("prompt_truncated")) == (length < len(whole["prompt_ids"]))
