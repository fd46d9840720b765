"""Every kind of `mask_kinds.py` in supervised rows: conversations and completions, alone, in a batch, cut anywhere."""

import copy

import numpy as np
import pytest
from easydata_sources import DataReport
from easydel_transforms import SFTPreprocessTransform

REPORTED = {"missing_stop_token": 1.0, "fully_masked": 1.0}
MODES = pytest.mark.parametrize("assistant_only", [True, False], ids=["assistant only", "whole"])


def transform_of(tokenizer, assistant_only, max_length=None, **options):
    return SFTPreprocessTransform(
        tokenizer, max_length, assistant_only_loss=assistant_only, report=DataReport(REPORTED), **options
    )


def rows_of(mask_kind):
    """The conversation as one row, and as prompt and completion."""
    whole = {"messages": mask_kind.messages, **mask_kind.row}
    split = {"prompt": mask_kind.messages[:-1], "completion": mask_kind.messages[-1:], **mask_kind.row}
    return copy.deepcopy(whole), copy.deepcopy(split)


def trained_of(tokenizer, row):
    """The texts of trained tokens that lie side by side."""
    runs, current = [], []
    for token, label in [*zip(row["input_ids"], row["labels"], strict=True), (0, -100)]:
        if label != -100:
            current.append(int(token))
        elif current:
            runs.append(tokenizer.decode(current))
            current = []
    return runs


def same(row, other):
    return row.keys() == other.keys() and all(np.array_equal(row[name], other[name]) for name in row)


def test_the_assistants_turns_are_trained(tokenizer_of, mask_kind):
    tokenizer = tokenizer_of(mask_kind.template)
    transform = transform_of(tokenizer, assistant_only=True)
    ((row,),) = transform.transform_batch([rows_of(mask_kind)[0]])
    trained = trained_of(tokenizer, row)
    # Turns that touch are one run.
    assert "".join(trained) == "".join(mask_kind.turns)
    assert all(any(run.startswith(turn) for turn in mask_kind.turns) for run in trained)
    assert transform.report.counts == mask_kind.counted


def test_all_tokens_are_trained_unless_that_is_asked_for(tokenizer_of, mask_kind):
    transform = transform_of(tokenizer_of(mask_kind.template), assistant_only=False)
    ((row,),) = transform.transform_batch([rows_of(mask_kind)[0]])
    assert (row["labels"] == row["input_ids"]).all()
    assert transform.report.counts == (
        mask_kind.counted if mask_kind.whole_counted is None else mask_kind.whole_counted
    )


@MODES
def test_a_completion_is_trained_to_its_end_and_its_prompt_never(tokenizer_of, mask_kind, assistant_only):
    """F7: nor are the answers in the prompt."""
    tokenizer = tokenizer_of(mask_kind.template)
    ((row,),) = transform_of(tokenizer, assistant_only).transform_batch([rows_of(mask_kind)[1]])
    assert trained_of(tokenizer, row) == [mask_kind.turns[-1] + ("" if assistant_only else mask_kind.behind)]


@MODES
def test_the_rows_beside_it_change_nothing(tokenizer_of, masks, mask_kind, assistant_only):
    tokenizer, (whole, split) = tokenizer_of(mask_kind.template), rows_of(mask_kind)
    other = {"messages": [masks["user"]("other words"), masks["says"]("and others")] * 2, **mask_kind.row}
    thinking = {"messages": [masks["user"]("z"), masks["says"]("<think>y")] * 2, **mask_kind.row}
    rows = [other, whole, split, other, whole, thinking, split]
    together = transform_of(tokenizer, assistant_only).transform_batch(copy.deepcopy(rows))
    for row, outputs in zip(rows, together, strict=True):
        alone = transform_of(tokenizer, assistant_only).transform_batch([copy.deepcopy(row)])
        assert same(alone[0][0], outputs[0])


@MODES
@pytest.mark.parametrize("mode", ["keep_start", "keep_end"])
def test_cuts_anywhere_keep_tokens_and_labels_of_the_rest(tokenizer_of, mask_kind, assistant_only, mode):
    tokenizer = tokenizer_of(mask_kind.template)
    for given in rows_of(mask_kind):
        ((whole,),) = transform_of(tokenizer, assistant_only).transform_batch([given])
        for length in range(2, len(whole["input_ids"]) + 1):
            kept = slice(0, length) if mode == "keep_start" else slice(-length, None)
            cut = transform_of(tokenizer, assistant_only, length, truncation_mode=mode)
            (outputs,) = cut.transform_batch([given])
            assert bool(outputs) == bool((whole["labels"][kept][1:] != -100).any())
            assert not outputs or same(outputs[0], {name: ids[kept] for name, ids in whole.items()})
            assert cut.report.counts.get("truncated", 0) == (length < len(whole["input_ids"]))
