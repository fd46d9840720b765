"""Every call that the guide to trainers and data shows, made as it shows it, on models and rows small enough to run.

What a call cannot leave out here is how long to train (`QUICK`); Hub names are answered by the stand-in of conftest.py.
"""

from __future__ import annotations

from pathlib import Path

import easydel as ed
import numpy as np
import pytest
from datasets import Dataset, load_dataset
from easydata_tokenize import load_tokenizer
from easydel.data import (
    HFDatasetShardedSource,
    JsonShardedSource,
    MixedShardedSource,
    ParquetShardedSource,
    TransformedShardedSource,
    WeightSchedulePoint,
    WeightScheduler,
    block_mixture_interleave,
    save_iterator,
    tokenize_and_save,
)
from easydel.trainers.transforms import (
    BCOPreprocessTransform,
    CPOPreprocessTransform,
    DPOPreprocessTransform,
    GRPOPreprocessTransform,
    KTOPreprocessTransform,
    ORPOPreprocessTransform,
    RewardPreprocessTransform,
    SFTPreprocessTransform,
)

GOLDEN = Path(__file__).parent / "golden"
QUICK = {
    "max_training_steps": 1,
    "total_batch_size": 4,
    "length_buckets": [1024],
    "log_steps": 1,
    "gradient_checkpointing": "none",
}
BUDGETS = {"max_prompt_length": 512, "max_completion_length": 512}


pytestmark = pytest.mark.usefixtures("lightly_compiled")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(GOLDEN / "tokenizer")


@pytest.fixture
def model():
    return ed.AutoEasyDeLModelForCausalLM.from_pretrained(GOLDEN / "models" / "policy", dtype="float32")


@pytest.fixture
def ref_model():
    return ed.AutoEasyDeLModelForCausalLM.from_pretrained(GOLDEN / "models" / "reference", dtype="float32")


@pytest.fixture
def reward_model():
    return ed.AutoEasyDeLModelForSequenceClassification.from_pretrained(GOLDEN / "models" / "reward", dtype="float32")


@pytest.fixture
def preferences():
    return load_dataset("trl-lib/ultrafeedback_binarized", split="train")


def trained(trainer) -> list[dict]:
    """The records of a run that moved the model, every one a number."""
    history = trainer.train().history
    assert len(history) == trainer.total_steps
    assert all(np.isfinite([record["loss"], record["grad_norm"]]).all() for record in history)
    assert all(record["grad_norm"] > 0 for record in history)
    return history


def copied(rows: str, pattern: str, parts: int = 2) -> None:
    """Golden rows as `parts` files under the working directory."""
    lines = (GOLDEN / "rows" / f"{rows}.jsonl").read_text(encoding="utf-8").splitlines()
    Path(pattern).parent.mkdir(parents=True, exist_ok=True)
    for part in range(parts):
        text = "\n".join(lines[part::parts]) + "\n"
        Path(pattern.replace("*", str(part))).write_text(text, encoding="utf-8")


# SFT


def test_basic_sft(model, tokenizer):
    dataset = load_dataset("tatsu-lab/alpaca", split="train")
    trainer = ed.SFTTrainer(
        model=model,
        train_dataset=dataset,
        processing_class=tokenizer,
        arguments=ed.SFTConfig(max_length=2048, **QUICK),
    )
    trained(trainer)
    # alpaca has a column `text` too; its structure is what is read, as a conversation
    seen = trainer.processing_class.decode(next(trainer._training_batch_iterator())["input_ids"][0])
    assert "<|im_start|>user" in seen
    assert "### Instruction" not in seen


def test_sft_with_mixed_datasets(model, tokenizer):
    alpaca = load_dataset("tatsu-lab/alpaca", split="train")
    dolly = load_dataset("databricks/databricks-dolly-15k", split="train")
    mixed = block_mixture_interleave(
        datasets={"alpaca": alpaca, "dolly": dolly},
        weights={"alpaca": 0.6, "dolly": 0.4},
        block_size=1000,
        seed=42,
        stop="restart",
    )
    equal = block_mixture_interleave(datasets={"alpaca": alpaca, "dolly": dolly}, weights=None)
    assert len(mixed) == len(equal) == len(alpaca) + len(dolly)
    first_block = [row for row, _ in zip(equal.rows(), range(1000), strict=False)]
    assert sum("context" in row for row in first_block) == 500
    trained(
        ed.SFTTrainer(
            model=model,
            train_dataset=mixed,
            processing_class=tokenizer,
            arguments=ed.SFTConfig(max_length=2048, **QUICK),
        )
    )


def test_sft_pre_tokenization(model, tokenizer):
    copied("messages", "conversations/*.jsonl")
    tokenize_and_save(
        data_files="conversations/*.jsonl",
        tokenizer="meta-llama/Llama-2-7b-chat-hf",
        output_path="./sft_tokenized",
        max_length=2048,
    )
    source = ParquetShardedSource("./sft_tokenized/*.parquet")
    pre_tokenized = ed.SFTTrainer(
        model=model,
        train_dataset=source,
        processing_class=tokenizer,
        arguments=ed.SFTConfig(max_length=2048, shuffle_train_dataset=False, **QUICK),
    )
    raw = ed.SFTTrainer(
        model=ed.AutoEasyDeLModelForCausalLM.from_pretrained(GOLDEN / "models" / "policy", dtype="float32"),
        train_dataset=JsonShardedSource("conversations/*.jsonl"),
        processing_class=tokenizer,
        arguments=ed.SFTConfig(max_length=2048, shuffle_train_dataset=False, **QUICK),
    )
    losses = [[record["loss"] for record in trained(trainer)] for trainer in (pre_tokenized, raw)]
    assert losses[0] == losses[1]


# Preferences


def test_basic_dpo(model, ref_model, preferences, tokenizer):
    trainer = ed.DPOTrainer(
        model=model,
        reference_model=ref_model,
        train_dataset=preferences,
        processing_class=tokenizer,
        arguments=ed.DPOConfig(**BUDGETS, beta=0.1, **QUICK),
    )
    assert trainer.arguments.max_length == 1024
    batch = next(iter(trainer._training_batch_iterator()))
    assert batch["input_ids"].shape[0] == 8  # four chosen answers, then four rejected ones
    assert {"input_ids", "attention_mask", "completion_mask"} <= batch.keys()
    trained(trainer)


@pytest.mark.parametrize("rows", ["preference_implicit", "preference_text"])
def test_layouts_of_pairs(rows, model, tokenizer):
    copied(rows, "pairs/*.jsonl", parts=1)
    trainer = ed.DPOTrainer(
        model=model,
        train_dataset=Dataset.from_json("pairs/0.jsonl", cache_dir="cache"),
        processing_class=tokenizer,
        arguments=ed.DPOConfig(**BUDGETS, **QUICK),
    )
    history = trained(trainer)
    assert history[0]["loss"] == pytest.approx(np.log(2), abs=1e-5)  # the reference is the policy, copied


def test_basic_kto(model, ref_model, preferences, tokenizer):
    trainer = ed.KTOTrainer(
        model=model,
        reference_model=ref_model,
        train_dataset=preferences,
        processing_class=tokenizer,
        arguments=ed.KTOConfig(**BUDGETS, beta=0.1, loss_type="kto", **QUICK),
    )
    trained(trainer)
    transform = KTOPreprocessTransform(tokenizer=tokenizer, **BUDGETS)
    (halves,) = transform.transform_batch([preferences[0]])
    assert [half["label"] for half in halves] == [True, False]


@pytest.mark.parametrize("name", ["ORPO", "CPO", "BCO"])
def test_the_other_preference_trainers(name, model, preferences, tokenizer):
    trainer = getattr(ed, f"{name}Trainer")(
        model=model,
        train_dataset=preferences,
        processing_class=tokenizer,
        arguments=getattr(ed, f"{name}Config")(**BUDGETS, beta=0.1, **QUICK),
    )
    trained(trainer)


def test_labelled_rows_need_no_unpairing(model, tokenizer):
    rows = [{"prompt": f"{n} is ", "completion": "even" if n % 3 else "odd", "label": n % 2 == 0} for n in range(12)]
    arguments = ed.KTOConfig(**BUDGETS, beta=0.1, loss_type="kto", **QUICK)
    trained(ed.KTOTrainer(model=model, train_dataset=rows, processing_class=tokenizer, arguments=arguments))


def test_reward(reward_model, preferences, tokenizer):
    trainer = ed.RewardTrainer(
        model=reward_model,
        train_dataset=preferences,
        processing_class=tokenizer,
        arguments=ed.RewardConfig(max_length=2048, **QUICK),
    )
    trained(trainer)
    trainer.save_pretrained("reward")
    again = ed.AutoEasyDeLModelForSequenceClassification.from_pretrained("reward")
    assert again.config.num_labels == 1


def test_dpo_pre_tokenization(model, tokenizer):
    copied("preference", "preference_data/*.jsonl", parts=1)
    transform = DPOPreprocessTransform(tokenizer=tokenizer, **BUDGETS)
    source = JsonShardedSource("preference_data/*.jsonl")
    tokenized = TransformedShardedSource(source, transform=transform)
    save_iterator(tokenized.open_shard(tokenized.shard_names[0]), output_path="./dpo_tokenized", format="parquet")
    histories = []
    for rows in (ParquetShardedSource("./dpo_tokenized/*.parquet"), source):
        trainer = ed.DPOTrainer(
            model=ed.AutoEasyDeLModelForCausalLM.from_pretrained(GOLDEN / "models" / "policy", dtype="float32"),
            train_dataset=rows,
            processing_class=tokenizer,
            arguments=ed.DPOConfig(**BUDGETS, shuffle_train_dataset=False, **QUICK),
        )
        histories.append([record["loss"] for record in trained(trainer)])
    assert histories[0] == histories[1]


# GRPO


def score_completion(completion) -> float:
    text = completion if isinstance(completion, str) else completion[-1]["content"]
    return float(len(text.split()))


def reward_fn(prompts, completions, **kwargs):
    return [score_completion(c) for c in completions]


GRPO_ROWS = {
    "pairs": None,  # prompts are taken from chosen and rejected
    "strings": {"prompt": ["Write a poem about AI", "Explain quantum computing"]},
    "conversations": {
        "prompt": [
            [{"role": "user", "content": "Write a poem about AI"}],
            [{"role": "user", "content": "Explain quantum computing"}],
        ]
    },
}


@pytest.mark.parametrize("rows", GRPO_ROWS)
def test_grpo(rows, model, preferences, tokenizer):
    columns = GRPO_ROWS[rows]
    trainer = ed.GRPOTrainer(
        model=model,
        reward_funcs=reward_fn,
        train_dataset=preferences if columns is None else Dataset.from_dict(columns),
        processing_class=tokenizer,
        arguments=ed.GRPOConfig(
            num_return_sequences=4, max_prompt_length=512, max_completion_length=8, **QUICK | {"total_batch_size": 8}
        ),
    )
    batch = next(iter(trainer._training_batch_iterator()))
    assert batch["attention_mask"][:, -1].all()  # prompts are padded on their left
    history = trainer.train().history
    assert all(np.isfinite([record["loss"], record["reward"]]).all() for record in history)


# Sources and mixtures for any trainer


def test_mixed_datasets_with_dpo(model, tokenizer):
    parts = [load_dataset("trl-lib/ultrafeedback_binarized", split="train").shard(3, index) for index in range(3)]
    ds1, ds2, ds3 = parts
    mixed = block_mixture_interleave(
        datasets={"ds1": ds1, "ds2": ds2, "ds3": ds3},
        weights={"ds1": 0.5, "ds2": 0.3, "ds3": 0.2},
        block_size=1000,
        seed=42,
        stop="restart",
    )
    arguments = ed.DPOConfig(**BUDGETS, **QUICK)
    trained(ed.DPOTrainer(model=model, train_dataset=mixed, processing_class=tokenizer, arguments=arguments))


def test_dynamic_weight_scheduling(model, tokenizer):
    dataset1 = load_dataset("tatsu-lab/alpaca", split="train")
    dataset2 = load_dataset("databricks/databricks-dolly-15k", split="train")
    source1 = HFDatasetShardedSource(dataset1)
    source2 = HFDatasetShardedSource(dataset2)
    scheduler = WeightScheduler(
        schedule=[
            WeightSchedulePoint(step=0, weights={"easy": 0.9, "hard": 0.1}),
            WeightSchedulePoint(step=10000, weights={"easy": 0.5, "hard": 0.5}),
            WeightSchedulePoint(step=50000, weights={"easy": 0.1, "hard": 0.9}),
        ],
        interpolation="linear",
    )
    assert scheduler.get_weights(30000)["easy"] == pytest.approx(0.3)
    mixed = MixedShardedSource(sources={"easy": source1, "hard": source2}, weight_scheduler=scheduler, block_size=1000)
    trainer = ed.SFTTrainer(
        model=model, train_dataset=mixed, processing_class=tokenizer, arguments=ed.SFTConfig(max_length=2048, **QUICK)
    )
    trained(trainer)


def test_streaming(model, tokenizer):
    dataset = load_dataset("HuggingFaceFW/fineweb", split="train", streaming=True)
    trainer = ed.SFTTrainer(
        model=model,
        train_dataset=dataset,
        processing_class=tokenizer,
        arguments=ed.SFTConfig(shuffle_train_dataset=False, **QUICK),
    )
    trained(trainer)


def test_the_transforms_alone(tokenizer):
    copied("preference", "data/*.jsonl")
    budgeted = (DPOPreprocessTransform, ORPOPreprocessTransform, CPOPreprocessTransform, KTOPreprocessTransform)
    for kind in (*budgeted, BCOPreprocessTransform):
        transformed = TransformedShardedSource(
            JsonShardedSource("data/*.jsonl"), transform=kind(tokenizer=tokenizer, **BUDGETS)
        )
        row = next(iter(transformed.rows()))
        assert len(row["prompt_ids"]) > 0
    prompts = GRPOPreprocessTransform(tokenizer=tokenizer, max_prompt_length=512)
    row = next(iter(TransformedShardedSource(JsonShardedSource("data/*.jsonl"), transform=prompts).rows()))
    assert tokenizer.decode(row["prompt_ids"]).endswith("<|im_start|>assistant\n")
    for whole in (SFTPreprocessTransform, RewardPreprocessTransform):
        assert whole(tokenizer=tokenizer, max_length=2048).report.counts == {}


# Advice and troubleshooting


def test_pad_tokens(model, preferences, tokenizer):
    import copy

    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.pad_token = None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
        tokenizer.pad_token_id = tokenizer.eos_token_id
    arguments = ed.DPOConfig(**BUDGETS, padding_value=tokenizer.pad_token_id, label_pad_token_id=-100, **QUICK)
    trained(ed.DPOTrainer(model=model, train_dataset=preferences, processing_class=tokenizer, arguments=arguments))


def test_dataset_must_have_column(model, tokenizer):
    dataset = Dataset.from_list([{"question": f"{n}?", "good": "yes", "bad": "no"} for n in range(8)])
    arguments = ed.DPOConfig(**BUDGETS, **QUICK)
    with pytest.raises(ValueError, match="Dataset must have column") as raised:
        ed.DPOTrainer(model=model, train_dataset=dataset, processing_class=tokenizer, arguments=arguments)
    assert all(name in str(raised.value) for name in dataset.column_names)
    mended = dataset.map(lambda x: {"prompt": x["question"], "chosen": x["good"], "rejected": x["bad"]})
    trained(ed.DPOTrainer(model=model, train_dataset=mended, processing_class=tokenizer, arguments=arguments))


def test_batch_sizes():
    assert ed.SFTConfig(total_batch_size=4).total_batch_size == 4
    split = ed.SFTConfig(total_batch_size=32, gradient_accumulation_steps=8)
    assert split.total_batch_size // split.gradient_accumulation_steps == 4


def test_models_by_name_from_the_hub():
    trainer = ed.SFTTrainer(
        model="HuggingFaceTB/SmolLM2-135M-Instruct",
        train_dataset=load_dataset("tatsu-lab/alpaca", split="train"),
        arguments=ed.SFTConfig(max_length=2048, **QUICK),
    )
    trained(trainer)
