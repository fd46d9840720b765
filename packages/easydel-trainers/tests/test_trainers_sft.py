"""The SFT trainer as a user meets it."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest
from easydata_sources import DataError
from easydel_models import AutoEasyDeLModelForCausalLM
from easydel_models.parameters import split_params
from easydel_trainers import Callback, ConfigError, DivergedError, SFTConfig, SFTTrainer


def config(**options) -> SFTConfig:
    shared = {
        "learning_rate": 3e-2,
        "total_batch_size": 8,
        "max_length": 32,
        "num_train_epochs": 3,
        "log_steps": 1,
        "length_buckets": [256],  # one compilation
    }
    return SFTConfig(**(shared | options))


def make(model, tokenizer, rows, arguments=None, **options) -> SFTTrainer:
    return SFTTrainer(model, arguments or config(), processing_class=tokenizer, train_dataset=rows, **options)


@pytest.mark.parametrize("optimizer", ["adamw", "lion", "sgd"])
def test_the_loss_falls(tiny_model, tokenizer, text_rows, optimizer):
    rate = {"adamw": 3e-2, "lion": 3e-3, "sgd": 0.5}[optimizer]
    output = make(tiny_model, tokenizer, text_rows, config(optimizer=optimizer, learning_rate=rate)).train()
    assert output.global_step == 15
    assert output.history[-1]["loss"] < output.history[0]["loss"] - 0.5


def test_the_users_model_object_holds_the_trained_parameters(tiny_model, tokenizer, text_rows):
    before = [np.asarray(leaf).copy() for leaf in jax.tree.leaves(split_params(tiny_model)[1])]
    make(tiny_model, tokenizer, text_rows, config(max_training_steps=1)).train()
    after = jax.tree.leaves(split_params(tiny_model)[1])
    assert not any(np.array_equal(b, np.asarray(a)) for b, a in zip(before, after, strict=True))


def test_equal_seeds_give_equal_bits_and_another_seed_another_order(tiny_model, tokenizer, text_rows):
    import copy

    def losses(seed):
        trainer = make(copy.deepcopy(tiny_model), tokenizer, text_rows, config(seed=seed, max_training_steps=3))
        return [record["loss"] for record in trainer.train().history]

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)


def test_compilations_are_counted_and_few(tiny_model, tokenizer, text_rows):
    output = make(tiny_model, tokenizer, text_rows, config(length_buckets=[128, 256])).train()
    assert 1 <= output.metrics["compilations"] <= 2
    assert output.metrics["compile_seconds"] > 0


def test_every_row_is_trained_once_an_epoch_and_the_last_step_is_short(tiny_model, tokenizer, text_rows):
    rows = text_rows[:11]
    trainer = make(tiny_model, tokenizer, rows, config(num_train_epochs=1, total_batch_size=4))
    output = trainer.train()
    assert output.global_step == 3
    words = sum(len(row["text"].split()) + 1 for row in rows)  # and a stop token each
    assert output.metrics["num_tokens"] == words
    assert trainer.data_report.rows == 11


def test_evaluation_is_weighted_by_tokens_whatever_the_batch(tiny_model, tokenizer, text_rows):
    results = [
        make(tiny_model, tokenizer, text_rows, config(eval_batch_size=size)).evaluate(text_rows[:10])
        for size in (1, 3, 10)
    ]
    assert results[0].keys() == {"eval_loss", "eval_entropy", "eval_mean_token_accuracy"}
    for result in results[1:]:
        assert result["eval_loss"] == pytest.approx(results[0]["eval_loss"], rel=1e-5)


def test_evaluation_steps_log_and_call_back(tiny_model, tokenizer, text_rows):
    seen = []

    class Listener(Callback):
        def on_evaluate(self, record, run):
            seen.append(record["step"])

    trainer = make(
        tiny_model,
        tokenizer,
        text_rows,
        config(evaluation_steps=2, max_training_steps=5),
        eval_dataset=text_rows[:4],
        callbacks=[Listener()],
    )
    output = trainer.train()
    assert seen == [2, 4, 5]
    assert [r["step"] for r in output.history if "eval_loss" in r] == [2, 4, 5]


def test_a_batch_can_be_looked_at_without_training(tiny_model, tokenizer, text_rows):
    trainer = make(tiny_model, tokenizer, text_rows)
    batches = trainer._training_batch_iterator()
    batch = next(iter(batches))
    assert batch["input_ids"].shape == batch["labels"].shape == batch["attention_mask"].shape
    assert batch["input_ids"].shape[0] == 8
    assert trainer.data_report.rows == 0


def test_saved_folder_holds_model_and_tokenizer(tiny_model, tokenizer, text_rows, tmp_path):
    trainer = make(tiny_model, tokenizer, text_rows, config(max_training_steps=1))
    trainer.train()
    trainer.save_pretrained(tmp_path / "model")
    loaded = AutoEasyDeLModelForCausalLM.from_pretrained(tmp_path / "model")
    for ours, theirs in zip(
        jax.tree.leaves(split_params(loaded)[1]), jax.tree.leaves(split_params(trainer.model)[1]), strict=True
    ):
        assert np.array_equal(ours, theirs)
    again = SFTTrainer(tmp_path / "model", config(max_training_steps=1), train_dataset=text_rows)
    assert again.processing_class.eos_token == "</s>"


def test_a_run_leaves_log_and_summary(tiny_model, tokenizer, text_rows, tmp_path):
    options = config(save_directory=str(tmp_path), max_training_steps=2)
    output = make(tiny_model, tokenizer, text_rows, options).train()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines == output.history
    expected = {
        "step", "epoch", "loss", "grad_norm", "learning_rate", "entropy", "mean_token_accuracy", "num_tokens",
        "tokens_per_second", "padded_tokens_per_second", "data_wait_share", "compilations",
    }  # fmt: skip
    assert expected <= lines[-1].keys()
    assert "tokens_per_second" not in lines[0]  # the step compiled
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["global_step"] == 2
    assert "2 steps" in output.summary()


def test_unknown_length_needs_a_number_of_steps(tiny_model, tokenizer, text_rows):
    from easydata_sources import as_sharded_source

    endless = as_sharded_source(text_rows).filter(lambda row: True)
    with pytest.raises(ConfigError, match="max_training_steps"):
        make(tiny_model, tokenizer, endless)
    output = make(tiny_model, tokenizer, endless, config(scheduler="constant", num_train_epochs=1)).train()
    assert output.global_step == 5


@pytest.mark.parametrize(
    ("rows", "message"),
    [([{"question": "w3", "reply": "w4"}], "question"), ([], "row"), ("missing/*.jsonl", "missing")],
)
def test_bad_rows_are_refused_before_anything_is_compiled(tiny_model, tokenizer, rows, message):
    with pytest.raises((DataError, FileNotFoundError, ConfigError), match=message):
        make(tiny_model, tokenizer, rows).train()


def test_a_model_object_without_tokenizer_is_refused(tiny_model, text_rows):
    with pytest.raises(ConfigError, match="processing_class"):
        SFTTrainer(tiny_model, config(), train_dataset=text_rows)


def test_evaluation_steps_without_rows_are_refused(tiny_model, tokenizer, text_rows):
    with pytest.raises(ConfigError, match="evaluation_steps"):
        make(tiny_model, tokenizer, text_rows, config(evaluation_steps=2))


def test_a_diverging_run_stops_and_says_where(tiny_model, tokenizer, text_rows):
    trainer = make(tiny_model, tokenizer, text_rows, config(optimizer="sgd", learning_rate=1e38, clip_grad=None))
    with pytest.raises(DivergedError, match="Step"):
        trainer.train()


FIELDS_SEEN_ELSEWHERE = {
    # field: where its effect is tested
    "save_directory", "save_steps", "save_total_limit", "resume",  # test_trainers_resume
    "save_minutes", "save_epochs",  # test_trainers_save_schedule
    "evaluation_steps", "eval_batch_size", "log_steps", "progress_bar", "gradient_accumulation_steps",
    "gradient_checkpointing", "padding_free", "param_dtype", "dtype",
    "on_save_error",  # test_trainers_faults
    "metric_for_best_model", "greater_is_better", "load_best_model_at_end",  # test_trainers_evaluation
    "preview_prompts", "preview_steps", "preview_max_new_tokens",  # test_trainers_evaluation
    "report_to", "run_name", "profile_steps", "loss_spike_factor", "skip_batches",  # test_trainers_watching
    "decay_steps", "ema_decay", "frozen_parameters",  # test_trainers_optimizer
    "max_tokens_per_micro_batch",  # test_trainers_micro_batches
    "dp", "fsdp", "ep", "tp", "sp",  # test_trainers_device_mesh
    "lora",  # test_trainers_lora
    "router_aux_loss_coef",  # tests-integration/test_router_loss
    "padding_side", "attention",  # test_trainers_layout, and below
    "packing", "packing_strategy", "packing_over_long", "eval_packing",  # test_trainers_packing
    "bad_rows", "bad_rows_budget",  # test_trainers_bad_rows
    "data_thresholds", "drop_unrendered",  # test_trainers_not_rendered
    "allow_other_tokenizer",  # test_tokenizer_of_rows
}  # fmt: skip

CHANGES = {
    "learning_rate": 1e-3,
    "learning_rate_end": 1e-2,
    "scheduler": "cosine",
    "warmup_steps": 1,
    "optimizer": "lion",
    "weight_decay": 0.5,
    "adam_beta1": 0.5,
    "adam_beta2": 0.5,
    "adam_epsilon": 1e-1,
    "clip_grad": 1e-4,
    "num_train_epochs": 2,
    "max_training_steps": 2,
    "total_batch_size": 4,
    "max_length": 6,
    "length_buckets": [512],
    "seed": 5,
    "shuffle_train_dataset": False,
    "shuffle_seed_train": 9,
    "loss_type": "dft",
    "label_smoothing_factor": 0.3,
    "dataset_text_field": "other",
    "neftune_alpha": 5.0,
    "pad_to_multiple_of": 48,
}


@pytest.fixture(scope="module")
def unchanged():
    """What the run without a change showed, once it was made."""
    return []


@pytest.mark.parametrize("field", sorted(CHANGES))
def test_every_field_changes_the_run(tiny_model, tokenizer, text_rows, unchanged, field):
    """Promise 11: a field that changes nothing would be decoration. Seen in log records, batch shapes included."""
    import copy

    # Three steps: what a moment's decay does to the second update is seen in the third loss.
    rows = [row | {"other": "w5 w6 w7"} for row in text_rows[:24]]

    def records(**options):
        arguments = config(**({"num_train_epochs": 1} | options))
        trainer = make(copy.deepcopy(tiny_model), tokenizer, rows, arguments)
        shape = next(trainer._training_batch_iterator())["input_ids"].shape
        measured = ("loss", "grad_norm", "learning_rate", "num_tokens")
        return [shape, *({name: record[name] for name in measured} for record in trainer.train().history)]

    if not unchanged:
        unchanged.append(records())
    assert unchanged[0] != records(**{field: CHANGES[field]})


def test_every_field_of_the_config_is_tested_somewhere():
    masks = {"completion_only_loss", "assistant_only_loss"}  # packages/easydel-transforms, and below
    names = {field.name for field in dataclasses.fields(SFTConfig)}
    assert names == set(CHANGES) | FIELDS_SEEN_ELSEWHERE | masks


def test_attention_is_the_one_asked_for(tiny_model, tokenizer, text_rows, monkeypatch):
    import easydel_models.attention.entry as attention

    asked = []
    for name, function in list(attention._IMPLEMENTATIONS.items()):
        spy = lambda *given, name=name, function=function: asked.append(name) or function(*given)  # noqa: E731
        monkeypatch.setitem(attention._IMPLEMENTATIONS, name, spy)
    for name in ("xla", "blocked"):
        make(tiny_model, tokenizer, text_rows[:8], config(attention=name, max_training_steps=1)).train()
        assert set(asked) == {name}
        asked.clear()
    with pytest.raises(ConfigError, match="needs a TPU"):
        make(tiny_model, tokenizer, text_rows, config(attention="splash"))
