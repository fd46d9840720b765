"""`trainer.explain(row)`: what training sees of a row, for people."""

from __future__ import annotations

import pytest
from easydel_trainers import SFTConfig, SFTTrainer
from easydel_trainers.data.explained import explained
from easydel_transforms import TokenView


@pytest.fixture
def trainer(tiny_model, tokenizer, text_rows):
    return SFTTrainer(tiny_model, SFTConfig(max_length=8), processing_class=tokenizer, train_dataset=text_rows)


def test_token_label_mask_and_segment_stand_side_by_side(trainer):
    lines = trainer.explain({"prompt": "w5 w6", "completion": " w7"}).splitlines()
    assert lines[0].split() == ["position", "segment", "token", "label", "trained", "text"]
    assert [line.split() for line in lines[1:]] == [
        ["0", "1", "5", "-100", "-", "'w5'"],
        ["1", "1", "6", "-100", "-", "'w6'"],
        ["2", "1", "7", "7", "yes", "'w7'"],
        ["3", "1", "2", "2", "yes", "'</s>'"],
    ]


def test_explaining_counts_nothing(trainer):
    before = trainer.data_report.to_dict()
    trainer.explain({"text": " ".join(["w5"] * 40)})
    assert trainer.data_report.to_dict() == before


def test_sequences_of_a_pair_are_segments_of_their_own():
    view = TokenView(5, "w5", True)
    lines = explained({"chosen": [view, view], "rejected": [view]}).splitlines()
    assert lines[1] == "chosen:"
    assert lines[3].split()[:5] == ["1", "1", "5", "5", "yes"]
    assert lines[4] == "rejected:"
    assert lines[5].split()[:5] == ["0", "2", "5", "-100", "-"]


def test_a_row_that_would_be_dropped_says_so():
    assert "dropped" in explained({})
