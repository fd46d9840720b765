"""Tokenized once and read back, rows train as if they had been read raw: the same batches, to the bit."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from easydata_tokenize import load_tokenizer
from easydel.data import (
    JsonShardedSource,
    ParquetShardedSource,
    TransformedShardedSource,
    save_iterator,
    tokenize_and_save,
)
from easydel.trainers import (
    DPOConfig,
    DPOTrainer,
    KTOConfig,
    KTOTrainer,
    RewardConfig,
    RewardTrainer,
    SFTConfig,
    SFTTrainer,
)
from easydel.trainers.transforms import DPOPreprocessTransform, KTOPreprocessTransform, RewardPreprocessTransform

GOLDEN = Path(__file__).parent / "golden"
BUDGETS = {"max_prompt_length": 48, "max_completion_length": 16}
CASES = {
    "dpo": (DPOTrainer, DPOConfig(**BUDGETS, total_batch_size=6), DPOPreprocessTransform, BUDGETS, "preference"),
    "kto": (KTOTrainer, KTOConfig(**BUDGETS, total_batch_size=6), KTOPreprocessTransform, BUDGETS, "preference"),
    "reward": (
        RewardTrainer,
        RewardConfig(max_length=128, total_batch_size=6),
        RewardPreprocessTransform,
        {"max_length": 128},
        "preference_margin",
    ),
}


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(GOLDEN / "tokenizer")


def batches(kind, config, tokenizer, rows, model):
    trainer = kind(str(GOLDEN / "models" / model), config, processing_class=tokenizer, train_dataset=rows)
    return list(trainer._training_batch_iterator())


def assert_equal(ours, theirs):
    assert len(ours) == len(theirs) > 1
    for left, right in zip(ours, theirs, strict=True):
        assert left.keys() == right.keys()
        for name in left:
            np.testing.assert_array_equal(left[name], right[name])


@pytest.mark.parametrize("name", CASES)
def test_preference_rows(name, tokenizer, tmp_path):
    kind, config, transform, options, rows = CASES[name]
    source = JsonShardedSource(GOLDEN / "rows" / f"{rows}.jsonl")
    tokenized = TransformedShardedSource(source, transform=transform(tokenizer=tokenizer, **options))
    save_iterator(tokenized.open_shard(tokenized.shard_names[0]), output_path=tmp_path, format="parquet")
    model = "reward" if name == "reward" else "policy"
    # Rows that expand move as one when raw rows are shuffled and singly once they are saved, so both stay in order.
    config = dataclasses.replace(config, shuffle_train_dataset=name != "kto")
    saved = ParquetShardedSource(f"{tmp_path}/*.parquet")
    assert_equal(
        batches(kind, config, tokenizer, saved, model),
        batches(kind, config, tokenizer, source, model),
    )


@pytest.mark.parametrize("rows", ["messages", "prompt_completion", "text"])
def test_supervised_rows(rows, tokenizer, tmp_path):
    source = str(GOLDEN / "rows" / f"{rows}.jsonl")
    tokenize_and_save(data_files=source, tokenizer=tokenizer, output_path=tmp_path, max_length=64)
    config = SFTConfig(max_length=64, total_batch_size=6, shuffle_train_dataset=False)
    assert_equal(
        batches(SFTTrainer, config, tokenizer, ParquetShardedSource(f"{tmp_path}/*.parquet"), "policy"),
        batches(SFTTrainer, config, tokenizer, source, "policy"),
    )
