"""Held-out sets, the best model, early stopping, previews."""

from __future__ import annotations

import copy
import json

import jax
import numpy as np
import pytest
from easydata_sources import DataError
from easydel_models.parameters import split_params
from easydel_trainers import Callback, ConfigError, EarlyStopping, SFTConfig, SFTTrainer


def config(directory=None, **options) -> SFTConfig:
    shared = {
        "learning_rate": 3e-2,
        "total_batch_size": 4,
        "max_length": 32,
        "max_training_steps": 8,
        "log_steps": 4,
        "length_buckets": [128, 256],
        "evaluation_steps": 2,
        "eval_batch_size": 4,
        "save_directory": None if directory is None else str(directory),
    }
    return SFTConfig(**(shared | options))


@pytest.fixture
def make(tiny_model, tokenizer, text_rows):
    def make(arguments: SFTConfig, **options) -> SFTTrainer:
        rows = {"train_dataset": text_rows, "eval_dataset": text_rows[:4]}
        return SFTTrainer(copy.deepcopy(tiny_model), arguments, processing_class=tokenizer, **(rows | options))

    return make


def parameters(trainer):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(split_params(trainer.model)[1])]


def test_each_named_set_has_metrics_of_its_own(make, text_rows):
    sets = {"short": text_rows[:4], "long": text_rows[4:8]}
    trainer = make(config(max_training_steps=2), eval_dataset=sets)
    (record,) = [r for r in trainer.train().history if "eval_short_loss" in r]
    assert {"eval_short_loss", "eval_long_loss", "eval_long_mean_token_accuracy"} <= record.keys()
    assert trainer.evaluate(text_rows[4:8])["eval_loss"] == pytest.approx(record["eval_long_loss"], rel=1e-6)
    assert trainer.evaluate({"again": text_rows[:4]})["eval_again_loss"] == record["eval_short_loss"]


def test_a_held_out_set_of_other_columns_is_refused_by_its_name(make, text_rows):
    sets = {"fine": text_rows[:4], "odd": [{"question": "w3", "reply": "w4"}]}
    with pytest.raises(DataError, match="question") as caught:
        make(config(), eval_dataset=sets)
    assert "eval set odd" in str(caught.value) + "".join(getattr(caught.value, "__notes__", ()))


@pytest.fixture
def scripted(monkeypatch):
    """Evaluations whose loss is told in advance."""

    def script(trainer: SFTTrainer, *losses: float) -> SFTTrainer:
        values = iter(losses)
        monkeypatch.setattr(trainer.source, "measure", lambda rows, state: {"loss": next(values)})
        return trainer

    return script


def test_the_best_checkpoint_is_kept_and_its_parameters_end_up_in_the_model(make, scripted, tmp_path):
    options = {"metric_for_best_model": "eval_loss", "load_best_model_at_end": True, "save_total_limit": 1}
    trainer = scripted(make(config(tmp_path, save_steps=2, **options)), 3.0, 1.0, 2.0, 1.5)
    output = trainer.train()
    assert (output.metrics["best_step"], output.metrics["best_value"]) == (4, 1.0)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["4", "8"]
    again = scripted(make(config(tmp_path, save_steps=2, **options)))
    again.train()  # finished: only loads
    for ours, theirs in zip(parameters(trainer), parameters(again), strict=True):
        assert np.array_equal(ours, theirs)
    last = make(config(tmp_path, save_steps=2, **(options | {"load_best_model_at_end": False})))
    last.train()
    assert not all(np.array_equal(a, b) for a, b in zip(parameters(last), parameters(trainer), strict=True))


def test_greater_may_be_better(make, scripted, tmp_path):
    options = {"metric_for_best_model": "eval_loss", "greater_is_better": True}
    output = scripted(make(config(tmp_path, **options)), 3.0, 1.0, 4.0, 1.5).train()
    assert output.metrics["best_step"] == 6


def test_a_metric_that_no_evaluation_has_is_refused_with_those_it_has(make, tmp_path):
    with pytest.raises(ConfigError, match=r"eval_lose.*eval_loss"):
        make(config(tmp_path, metric_for_best_model="eval_lose")).train()


def test_early_stopping_waits_for_patience_and_goes_on_counting_after_a_kill(make, scripted, tmp_path, break_off):
    def stopping():
        return [EarlyStopping(patience=2)]

    whole = scripted(make(config(max_training_steps=20), callbacks=stopping()), 3.0, 2.0, 2.5, 2.0, 1.0)
    assert whole.train().global_step == 8

    options = config(tmp_path, max_training_steps=20, save_steps=6)
    with pytest.raises(KeyboardInterrupt):
        scripted(make(options, callbacks=[*stopping(), break_off(7)]), 3.0, 2.0, 2.5).train()
    assert scripted(make(options, callbacks=stopping()), 2.0, 1.0).train().global_step == 8


def test_a_callback_sees_the_run_and_can_end_it(make):
    class Listener(Callback):
        def __init__(self):
            self.seen = []

        def on_begin(self, run):
            self.seen.append(("begin", run.step))

        def on_step(self, run):
            if run.step == 3:
                run.stop()

        def on_evaluate(self, record, run):
            self.seen.append(("evaluate", record["step"], jax.tree.leaves(run.params)[0].shape))

        def on_end(self, run):
            self.seen.append(("end", run.step))

    listener = Listener()
    output = make(config(), callbacks=[listener]).train()
    assert output.global_step == 3
    shape = (97, 16)
    assert listener.seen == [("begin", 0), ("evaluate", 2, shape), ("evaluate", 3, shape), ("end", 3)]
    assert output.history[-2]["step"] == 3  # the last step is logged wherever the run ends
    assert "loss" in output.history[-2]


def test_an_average_is_what_is_evaluated_and_kept(make, text_rows):
    trainer = make(config(ema_decay=0.9, max_training_steps=4, evaluation_steps=4))
    plain = make(config(max_training_steps=4, evaluation_steps=4))
    averaged, last = trainer.train(), plain.train()
    assert averaged.history[0]["loss"] == last.history[0]["loss"]  # trained alike …
    assert averaged.history[-1]["eval_loss"] != last.history[-1]["eval_loss"]  # … judged otherwise
    assert trainer.evaluate()["eval_loss"] == pytest.approx(averaged.history[-1]["eval_loss"], rel=1e-6)


def test_previews_are_the_models_own_answers(make, tmp_path, tokenizer):
    options = {"preview_prompts": ["w5 w6", "w30"], "preview_steps": 3, "preview_max_new_tokens": 4}
    trainer = make(config(tmp_path, evaluation_steps=None, max_training_steps=4, **options))
    trainer.train()
    lines = [json.loads(line) for line in (tmp_path / "previews.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 4]
    assert [preview["prompt"] for preview in lines[-1]["previews"]] == ["w5 w6", "w30"]
    result = trainer.model.generate([tokenizer.encode("w5 w6")], max_new_tokens=4, eos_token_id=2)
    expected = tokenizer.decode(result.token_ids[0], skip_special_tokens=True).strip()
    assert lines[-1]["previews"][0]["answer"] == expected
    assert len(lines[-1]["previews"][0]["answer"].split()) <= 4


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"metric_for_best_model": "eval_loss", "evaluation_steps": None}, "metric_for_best_model"),
        ({"load_best_model_at_end": True}, "load_best_model_at_end"),
        ({"greater_is_better": True}, "greater_is_better"),
        ({"preview_prompts": ["w3"]}, "preview_steps"),
        ({"preview_steps": 3}, "preview_steps"),
    ],
)
def test_fields_that_need_another_say_so(tmp_path, options, field):
    with pytest.raises(ConfigError) as caught:
        config(tmp_path, **options)
    assert caught.value.field == field


def test_a_first_evaluation_without_a_number_is_no_best(make, scripted, tmp_path):
    options = {"metric_for_best_model": "loss", "max_training_steps": 6}
    output = scripted(make(config(tmp_path, **options)), float("nan"), 2.0, 3.0).train()
    assert (output.metrics["best_step"], output.metrics["best_value"]) == (4, 2.0)
    stopping = scripted(make(config(), callbacks=[EarlyStopping(patience=2)]), float("nan"), 2.0, 1.0, 1.5)
    assert stopping.train().global_step == 8


def test_an_accuracy_is_better_the_larger_it_is_unless_told(make, monkeypatch, tmp_path):
    def best_of(directory, **options) -> int:
        values = iter([0.5, 0.9, 0.7, 0.6])
        trainer = make(config(tmp_path / directory, metric_for_best_model="mean_token_accuracy", **options))
        monkeypatch.setattr(trainer.source, "measure", lambda rows, state: {"mean_token_accuracy": next(values)})
        return trainer.train().metrics["best_step"]

    assert best_of("unset") == 4
    assert best_of("told", greater_is_better=False) == 2
    assert SFTConfig(**BEST, metric_for_best_model="eval_loss").greater_is_better is False
    assert SFTConfig(**BEST, metric_for_best_model="eval_chat_loss").greater_is_better is False
    assert SFTConfig(**BEST, metric_for_best_model="loss_share").greater_is_better is True


BEST = {"evaluation_steps": 2, "save_directory": "unused"}


@pytest.mark.parametrize("options", [{"metric_for_best_model": "eval_lose"}, {"callbacks": ["eval_lose"]}])
def test_a_wrong_metric_is_told_before_the_first_step(make, tmp_path, options):
    callbacks = [EarlyStopping(name) for name in options.pop("callbacks", ())]
    trainer = make(config(tmp_path, **options), callbacks=callbacks)
    with pytest.raises(ConfigError, match=r"eval_lose.*eval_loss, eval_mean_token_accuracy"):
        trainer.train()
    assert trainer.program.train_step.compilations == 0


def test_a_run_that_early_stopping_ended_stays_ended(make, scripted, tmp_path):
    def again():
        return make(config(tmp_path, max_training_steps=20), callbacks=[EarlyStopping(patience=1)])

    ended = scripted(again(), 1.0, 2.0)
    assert ended.train().global_step == 4
    for _ in range(2):
        restarted = scripted(again())
        assert restarted.train().global_step == 4
        for ours, theirs in zip(parameters(restarted), parameters(ended), strict=True):
            assert np.array_equal(ours, theirs)
    patient = make(config(tmp_path, max_training_steps=20), callbacks=[EarlyStopping(patience=3)])
    assert scripted(patient, 0.5, 0.6, 0.7, 0.8).train().global_step == 12


def test_a_preview_that_fails_ends_no_run(make, monkeypatch, caplog, tmp_path):
    def fail(*_, **__):
        raise ValueError("no room")

    monkeypatch.setattr("easydel_trainers.run.run.greedy_answers", fail)
    options = {"preview_prompts": ["w5"], "preview_steps": 1, "max_training_steps": 2, "evaluation_steps": None}
    assert make(config(tmp_path, **options)).train().global_step == 2
    assert caplog.text.count("no room") == 2
