"""Preference rows as TRL itself prepared them: token for token.

TRL's CPO, ORPO and BCO add one more end token to conversations that their template has ended already; ours do not, and
that token is all that may differ.
"""

import json

import numpy as np
import pytest
from easydel_transforms import (
    BCOPreprocessTransform,
    CPOPreprocessTransform,
    DPOPreprocessTransform,
    GRPOPreprocessTransform,
    KTOPreprocessTransform,
    ORPOPreprocessTransform,
    RewardPreprocessTransform,
)

TRANSFORMS = {
    "dpo": DPOPreprocessTransform,
    "cpo": CPOPreprocessTransform,
    "orpo": ORPOPreprocessTransform,
    "kto": KTOPreprocessTransform,
    "bco": BCOPreprocessTransform,
    "reward": RewardPreprocessTransform,
    "grpo": GRPOPreprocessTransform,
}
EXTRA_END = [2]  # <|im_end|>, behind the "<|im_end|>\n" that the template writes


@pytest.fixture
def prepared(preference_case, tokenizer, read_jsonl):
    transform = TRANSFORMS[preference_case["trainer"]](tokenizer, **preference_case["options"])
    rows = read_jsonl(preference_case["rows"])[: preference_case["n_rows"]]
    return transform.transform_batch(rows)


def test_rows_equal_trls(preference_case, prepared, read_jsonl):
    expected = read_jsonl(f"tokenized/{preference_case['name']}.jsonl")
    assert sum(len(outputs) for outputs in prepared) == len(expected)
    for theirs in expected:
        (ours,) = prepared[theirs["row"]]
        CHECKS[preference_case["trainer"]](
            {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in ours.items()}, theirs
        )


def same_pair(ours, theirs):
    assert ours == {name: theirs[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids")}


def same_whole_pair(ours, theirs):
    for name in ("chosen", "rejected"):
        assert ours["prompt_ids"] + ours[f"{name}_ids"] == theirs[f"{name}_ids"]


def same_but_for_the_end(ours, theirs):
    for name in ("chosen", "rejected"):
        end = [] if len(theirs[f"{name}_input_ids"]) == 64 else EXTRA_END  # cut at 64 in the case that cuts
        whole = ours["prompt_ids"] + ours[f"{name}_ids"]
        assert (whole + end)[:64] == theirs[f"{name}_input_ids"][:64]
        trained = [token for token in theirs[f"{name}_labels"] if token != -100]
        assert (ours[f"{name}_ids"] + end)[: len(trained)] == trained


def same_answer(ours, theirs):
    assert {name: ours[name] for name in ("prompt_ids", "completion_ids", "label")} == {
        name: theirs[name] for name in ("prompt_ids", "completion_ids", "label")
    }


def same_answer_but_for_the_end(ours, theirs):
    assert ours["prompt_ids"] == theirs["prompt_input_ids"]
    assert ours["completion_ids"] == theirs["answer_input_ids"]
    assert ours["prompt_ids"] + ours["completion_ids"] + EXTRA_END == theirs["completion_input_ids"]
    assert ours["label"] == theirs["label"]


def same_prompt(ours, theirs):
    assert ours["prompt_ids"] == theirs["prompt_ids"]
    assert set(ours) == {"prompt", "prompt_ids", "answer"}


CHECKS = {
    "dpo": same_pair,
    "cpo": same_but_for_the_end,
    "orpo": same_but_for_the_end,
    "reward": same_whole_pair,
    "kto": same_answer,
    "bco": same_answer_but_for_the_end,
    "grpo": same_prompt,
}


def test_cut_pairs_equal_trls_collated_batch(tokenizer, read_jsonl, golden):
    index = json.loads((golden / "tokenized" / "index.json").read_text())
    (case,) = [case for case in index if case["name"] == "smollm2_dpo_preference_max64"]
    collated = case["collated_first_4"]
    outputs = DPOPreprocessTransform(tokenizer, max_length=64).transform_batch(read_jsonl(case["rows"])[:4])
    rows = [ours for (ours,) in outputs]
    wholes = [np.concatenate([row["prompt_ids"], row[f"{n}_ids"]]) for n in ("chosen", "rejected") for row in rows]
    for ours, ids, mask in zip(wholes, collated["input_ids"], collated["attention_mask"], strict=True):
        assert ours.tolist() == np.array(ids)[np.array(mask, bool)].tolist()
