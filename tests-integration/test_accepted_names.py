"""Names that are accepted because EasyDeL's pages have them: documented in one table, and held against what is done."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import easydel as ed
import numpy as np
import pytest
from easydata_sources import DataError
from easydata_tokenize import load_tokenizer
from easydel.data import CombineFields, FilterByField, MapField, MixedShardedSource
from easydel.trainers.transforms import GRPOPreprocessTransform
from easydel_trainers.errors import ConfigError

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests-integration" / "golden"
PAGE = ROOT / "docs" / "how-to" / "from-easydel.md"
TOKENIZER = load_tokenizer(GOLDEN / "tokenizer")
ROWS = [{"a": f"{number}", "b": "x"} for number in range(6)]
# name, class -> what it does with the name; the same without it, or by the native name; what is refused
SAME: dict[tuple[str, str], tuple[Callable[[], Any], Callable[[], Any], Callable[[], Any]]] = {
    ("stop_strategy", "MixedShardedSource"): (
        lambda: mixed(stop_strategy="first_exhausted"),
        lambda: mixed(stop="first_exhausted"),
        lambda: mixed(stop="all_exhausted", stop_strategy="first_exhausted"),
    ),
    ("pred", "FilterByField"): (
        lambda: [FilterByField("a", pred="3".__eq__)(row) for row in ROWS],
        lambda: [FilterByField("a", "3".__eq__)(row) for row in ROWS],
        lambda: FilterByField("a", "3".__eq__, pred="3".__eq__),
    ),
    ("fn", "MapField"): (
        lambda: [MapField("a", fn=int)(row) for row in ROWS],
        lambda: [MapField("a", int)(row) for row in ROWS],
        lambda: MapField("a", int, fn=int),
    ),
    ("fields", "CombineFields"): (
        lambda: [CombineFields(fields=["a", "b"], target_field="c")(row) for row in ROWS],
        lambda: [CombineFields(["a", "b"], "c")(row) for row in ROWS],
        lambda: CombineFields(["a"], "c", fields=["b"]),
    ),
    ("output_field", "CombineFields"): (
        lambda: [CombineFields(["a", "b"], output_field="c")(row) for row in ROWS],
        lambda: [CombineFields(["a", "b"], "c")(row) for row in ROWS],
        lambda: CombineFields(["a"], "c", output_field="d"),
    ),
    ("max_completion_length", "GRPOPreprocessTransform"): (
        lambda: prompt_ids(max_completion_length=2),
        lambda: prompt_ids(max_completion_length=None),
        lambda: prompt_ids(max_completion_length=0),
    ),
}
OF_CONFIGS = {("padding_value", "GRPOConfig"), ("padding_value", "preference"), ("label_pad_token_id", "preference")}
PREFERENCE = (ed.DPOConfig, ed.ORPOConfig, ed.CPOConfig, ed.KTOConfig, ed.BCOConfig)


def mixed(**options: Any) -> list[str]:
    source = MixedShardedSource({"one": ROWS, "other": ROWS[:2]}, block_size=2, **options)
    return [row["a"] for row in source.limit(20).rows()]


def prompt_ids(**budgets: int | None) -> list[list[int]]:
    transform = GRPOPreprocessTransform(TOKENIZER, max_prompt_length=4, **budgets)
    (outputs,) = transform.transform_batch([{"prompt": "one two three four five six seven"}])
    return [row["prompt_ids"].tolist() for row in outputs]


def test_the_page_lists_these_names_and_no_others():
    section = PAGE.read_text().partition("## What is accepted and changes nothing")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `")]
    listed = {
        (name, owner.strip())
        for names, owners in rows
        for name in re.findall(r"`(\w+)`", names)
        for owner in owners.replace("the preference configs", "preference").replace("`", "").split(",")
    }
    assert listed == set(SAME) | OF_CONFIGS


@pytest.mark.parametrize("name", SAME, ids=".".join)
def test_another_name_does_what_the_native_one_does(name):
    accepted, native, refused = SAME[name]
    assert accepted() == native()
    with pytest.raises((DataError, ValueError), match=name[0]):
        refused()


@pytest.mark.parametrize("config", PREFERENCE)
def test_the_ignored_label_is_one(config):
    assert config(label_pad_token_id=-100) == config()
    with pytest.raises(ConfigError, match="label_pad_token_id"):
        config(label_pad_token_id=-1)


@pytest.mark.usefixtures("lightly_compiled")
@pytest.mark.parametrize("padding_free", [pytest.param(True, marks=pytest.mark.thorough), False])
def test_what_fills_empty_positions_changes_no_number(padding_free):
    rows = [json.loads(line) for line in (GOLDEN / "rows" / "preference.jsonl").read_text().splitlines()[:2]]

    def losses(padding_value: int | None) -> np.ndarray:
        config = ed.DPOConfig(
            max_length=64,
            total_batch_size=2,
            max_training_steps=1,
            length_buckets=[128],
            gradient_checkpointing="none",
            log_steps=1,
            padding_free=padding_free,
            padding_value=padding_value,
            progress_bar=False,
        )
        model = ed.AutoEasyDeLModelForCausalLM.from_pretrained(GOLDEN / "models" / "policy", dtype="float32")
        trainer = ed.DPOTrainer(model=model, arguments=config, processing_class=TOKENIZER, train_dataset=rows)
        return np.array([record["loss"] for record in trainer.train().history if "loss" in record])

    np.testing.assert_array_equal(losses(None), losses(5))
    with pytest.raises(ConfigError, match="padding_value"):
        losses(10**6)
