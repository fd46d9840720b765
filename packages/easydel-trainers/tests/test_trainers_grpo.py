"""GRPO from prompts to updates: what a step sees, however it is split, stopped or overlapped."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from easydel_models import AutoEasyDeLModelForSequenceClassification, DecoderConfig
from easydel_models.adapters.config import LoraConfig
from easydel_models.generation.model_engine import ModelEngine
from easydel_models.generation.options import GenerateResult
from easydel_models.parameters import split_params
from easydel_trainers import Callback, ConfigError, GRPOConfig, GRPOTrainer, RewardError
from easydel_trainers.algorithms.grpo.reward_model import RewardModel
from easydel_trainers.records.sampled import read_sampled


@pytest.fixture(scope="session")
def prompts():
    return [{"prompt": f"w{3 + k} w{40 + k}", "wanted": 40 + k, "name": f"row {k}"} for k in range(12)]


def shares(completion_ids, wanted, **columns):
    """The share of tokens that are not larger than the wanted one."""
    return [float(np.mean([token <= word for token in ids])) for ids, word in zip(completion_ids, wanted, strict=True)]


def nothing(completion_ids, **columns):
    """A reward that needs no column of the rows."""
    return [0.0] * len(completion_ids)


def config(**options) -> GRPOConfig:
    shared = {
        "learning_rate": 1e-2,
        "num_return_sequences": 4,
        "total_batch_size": 8,
        "max_prompt_length": 8,
        "max_completion_length": 6,
        "log_steps": 1,
        "length_buckets": [32, 64, 128],
        "progress_bar": False,
        "gradient_checkpointing": "none",
    }
    return GRPOConfig(**(shared | options))


@pytest.fixture
def make(tiny_model, tokenizer, prompts):
    def make(arguments: GRPOConfig | None = None, **options) -> GRPOTrainer:
        shared = {"processing_class": tokenizer, "train_dataset": prompts, "reward_funcs": shares}
        return GRPOTrainer(copy.deepcopy(tiny_model), arguments or config(), **(shared | options))

    return make


def parameters(trainer: GRPOTrainer) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(split_params(trainer.model)[1])]


def assert_equal(ours: GRPOTrainer, theirs: GRPOTrainer) -> None:
    for left, right in zip(parameters(ours), parameters(theirs), strict=True):
        np.testing.assert_array_equal(left, right)


def numbers(history) -> list[dict[str, float]]:
    """Records without speeds and clocks."""
    timed = ("per_second", "share", "seconds", "compilations")
    return [{k: v for k, v in record.items() if not any(word in k for word in timed)} for record in history]


def test_a_run_learns_and_tells_everything(make, tmp_path):
    trainer = make(config(save_directory=str(tmp_path), max_training_steps=12, learning_rate=5e-2))
    output = trainer.train()
    first, last = output.history[0], output.history[-1]
    assert last["reward"] > first["reward"] + 0.1
    expected = {"reward", "reward_std", "rewards/shares/mean", "rewards/shares/std", "frac_reward_zero_std", "entropy"}
    expected |= {
        f"completions/{which}_{what}" for which in ("mean", "min", "max") for what in ("length", "terminated_length")
    }
    expected |= {"completions/clipped_ratio", "clip_ratio/low_mean", "clip_ratio/low_min", "clip_ratio/high_mean"}
    expected |= {"clip_ratio/high_max", "clip_ratio/region_mean", "steps_off_policy"}
    assert expected <= first.keys()
    assert {"time_share/rollout", "time_share/update", "time_share/rewards"} <= last.keys()
    # Not of rollouts and steps that compiled.
    assert {"rollout/tokens_per_second", "update/tokens_per_second"} <= set().union(*output.history)
    assert 0 < last["time_share/rollout"] < 1
    assert 0 < last["time_share/rollout"] + last["time_share/update"] + last["time_share/rewards"] <= 1.001
    assert last["steps_off_policy"] == 0
    shown = read_sampled(tmp_path / "completions.jsonl", last=1)
    assert [step for step, _ in shown] == [12] * 4
    assert all(set(one.rewards) == {"shares"} for _, one in shown)
    page = (tmp_path / "report.html").read_text()
    assert "Sampled answers" in page
    assert "advantage" in page


def test_columns_stay_with_their_completions_under_any_accumulation(make, tokenizer, prompts):
    by_prompt = {row["prompt"]: row for row in prompts}
    calls = []

    def check(prompts, completions, completion_ids, wanted, name):
        calls.append(list(prompts))
        for prompt, completion, ids, word, label in zip(
            prompts, completions, completion_ids, wanted, name, strict=True
        ):
            assert (by_prompt[prompt]["wanted"], by_prompt[prompt]["name"]) == (word, label)
            assert completion == tokenizer.decode(ids, skip_special_tokens=True)
        return shares(completion_ids, wanted)

    for micro_batches in (1, 4):
        make(config(gradient_accumulation_steps=micro_batches), reward_funcs=check).train()
    half = len(calls) // 2
    assert calls[:half] == calls[half:]
    assert sorted(prompt for call in calls[:half] for prompt in call) == sorted(4 * [row["prompt"] for row in prompts])
    assert all(call[0] == call[3] != call[4] == call[7] for call in calls)


def history_of(make, **options):
    trainer = make(config(max_training_steps=2, **options))
    return trainer.train().history, parameters(trainer)


@pytest.mark.parametrize(
    ("loss", "splits"),
    [
        pytest.param(
            {"loss_type": "grpo", "beta": 0.1, "num_iterations": 2},
            [{"gradient_accumulation_steps": 2}],
            id="grpo",
            marks=pytest.mark.thorough,
        ),
        pytest.param(
            {"loss_type": "dapo", "top_entropy_quantile": 0.4, "mask_truncated_completions": True},
            [{"max_tokens_per_micro_batch": 32}],
            id="dapo",
        ),
        pytest.param(
            {"loss_type": "dr_grpo", "importance_sampling_level": "sequence", "num_iterations": 2},
            [{"gradient_accumulation_steps": 4, "padding_free": False}],
            id="dr_grpo",
            marks=pytest.mark.thorough,
        ),
    ],
)
def test_the_split_of_a_step_does_not_matter(make, loss, splits):
    whole, params = history_of(make, **loss)
    for split in splits:
        again, split_params = history_of(make, **loss, **split)
        for ours, theirs in zip(again, whole, strict=True):
            assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=2e-4)
            for metric in numbers([theirs])[0]:
                assert ours[metric] == pytest.approx(theirs[metric], rel=1e-4, abs=2e-6), metric
        for ours, theirs in zip(split_params, params, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-4)


class Prepared:
    """An engine that answers each prompt with words that depend on it and on nothing else."""

    def update(self, model) -> None:
        """Its answers do not change."""

    def generate(self, prompts, options) -> GenerateResult:
        ids = [
            [3 + (7 * prompt[-1] + 11 * k + 5 * t) % 90 for t in range(2 + (prompt[-1] + k) % 4)] + [2] * (k % 2)
            for prompt in prompts
            for k in range(options.num_return_sequences)
        ]
        reasons = ["stop" if tokens[-1] == 2 else "length" for tokens in ids]
        return GenerateResult(token_ids=ids, logprobs=[[-4.0] * len(t) for t in ids], finish_reasons=reasons)


def test_the_order_of_groups_does_not_matter(make, prompts):
    def records(rows):
        arguments = config(
            total_batch_size=16, shuffle_train_dataset=False, max_training_steps=1, importance_sampling_correction=False
        )
        trainer = make(arguments, train_dataset=rows, engine=Prepared())
        return trainer.train().history[0], parameters(trainer)

    (ours, ours_params), (theirs, theirs_params) = records(prompts[:4]), records([prompts[k] for k in (2, 0, 3, 1)])
    for metric in numbers([theirs])[0]:
        assert ours[metric] == pytest.approx(theirs[metric], rel=1e-4, abs=1e-6), metric
    for left, right in zip(ours_params, theirs_params, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-3, atol=1e-4)


def test_ratios_of_later_iterations_are_clipped(make):
    history, _ = history_of(make, num_iterations=2, learning_rate=0.1, epsilon=0.01)
    assert history[0]["clip_ratio/region_mean"] == 0
    assert history[1]["clip_ratio/region_mean"] > 0
    assert "reward" in history[0]
    assert "reward" not in history[1]
    assert [record["steps_off_policy"] for record in history] == [0, 1]


class StopAfter(Callback):
    """Breaks the run off, as a kill would, after some step's log."""

    def __init__(self, step: int):
        self.step = step

    def on_log(self, record, run):
        if record["step"] >= self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("options", "stop"),
    [
        # within the second rollout's iterations
        pytest.param({"num_iterations": 3}, 4, id="iterations", marks=pytest.mark.thorough),
        pytest.param(
            {
                "steps_off_policy": 1,
                "num_iterations": 2,
                "beta": 0.1,
                "sync_ref_model": True,
                "ref_model_sync_steps": 2,
            },
            3,
            id="everything",
        ),
    ],
)
def test_a_resumed_run_ends_with_equal_bits(make, tmp_path, options, stop):
    shared = {"max_training_steps": 5, "save_steps": stop} | options
    whole = make(config(save_directory=str(tmp_path / "whole"), **shared))
    history = whole.train().history
    with pytest.raises(KeyboardInterrupt):
        make(config(save_directory=str(tmp_path / "stopped"), **shared), callbacks=[StopAfter(stop)]).train()
    resumed = make(config(save_directory=str(tmp_path / "stopped"), **shared))
    assert numbers(resumed.train().history) == numbers(history)
    assert_equal(resumed, whole)


def test_off_policy_by_one_step_is_reported_and_the_same_every_time(make):
    ahead, params = history_of(make, steps_off_policy=1, learning_rate=0.1)
    again, params_again = history_of(make, steps_off_policy=1, learning_rate=0.1)
    assert [record["steps_off_policy"] for record in ahead] == [0, 1]
    assert numbers(ahead) == numbers(again)
    for left, right in zip(params, params_again, strict=True):
        np.testing.assert_array_equal(left, right)
    assert ahead[1]["clip_ratio/region_mean"] > 0  # measured against the parameters that sampled


def test_the_reference_is_there_only_where_it_is_asked_for(make, tiny_model):
    assert make().source.sampling.reference is None
    held = make(config(beta=0.1, max_training_steps=2, learning_rate=0.05))
    history = held.train().history
    assert history[0]["kl"] == pytest.approx(0.0, abs=1e-6)
    assert history[1]["kl"] > 1e-5
    with pytest.raises(ConfigError, match="beta is 0"):
        make(reference_model=copy.deepcopy(tiny_model))


def test_adapters_are_held_to_the_base_model(make):
    arguments = config(beta=0.1, max_training_steps=2, learning_rate=0.1, lora=LoraConfig(rank=2), num_iterations=2)
    trainer = make(arguments)
    history = trainer.train().history
    assert history[0]["kl"] == pytest.approx(0.0, abs=1e-6)
    assert history[1]["kl"] > 0
    with pytest.raises(ConfigError, match="adapters"):
        make(config(beta=0.1, sync_ref_model=True, lora=LoraConfig(rank=2)))


class Server:
    """An engine that is not ours, whose log-probabilities are a little off."""

    def __init__(self, model):
        self._inner = ModelEngine(model)

    def update(self, model) -> None:
        self._inner.update(model)

    def generate(self, prompts, options) -> GenerateResult:
        found = self._inner.generate(prompts, options)
        off = [[value - 0.1 for value in values] for values in found.logprobs]
        return GenerateResult(token_ids=found.token_ids, logprobs=off, finish_reasons=found.finish_reasons)


def test_tokens_of_another_engine_are_corrected(make, tiny_model):
    arguments = {"max_training_steps": 1, "importance_sampling_mode": "token_truncate"}
    record = make(config(**arguments), engine=Server(tiny_model)).train().history[0]
    assert record["sampling/sampling_logp_difference/mean"] == pytest.approx(0.1, abs=1e-3)
    assert record["sampling/importance_sampling_ratio/mean"] == pytest.approx(np.exp(0.1), rel=1e-3)
    plain = make(config(**arguments)).train().history[0]
    assert record["reward"] == plain["reward"]
    assert record["grad_norm"] == pytest.approx(plain["grad_norm"] * np.exp(0.1), rel=1e-3)
    off = make(config(**arguments, importance_sampling_correction=False), engine=Server(tiny_model)).train().history[0]
    assert off["grad_norm"] == pytest.approx(plain["grad_norm"], rel=1e-5)
    assert not any(name.startswith("sampling/") for name in (*plain, *off))


def test_a_reward_model_judges_by_object_or_by_folder(make, tokenizer, tmp_path):
    classifier = AutoEasyDeLModelForSequenceClassification.from_config(
        DecoderConfig(
            vocab_size=97,
            dim=16,
            num_layers=1,
            num_heads=2,
            num_kv_heads=1,
            mlp_dim=32,
            num_labels=1,
            pad_token_id=2,
            initializer_range=0.5,
        ),
        seed=3,
    )
    folder = tmp_path / "judge"
    classifier.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    arguments = config(max_training_steps=1, reward_weights=[1.0, 0.0])
    by_object = make(arguments, reward_funcs=[classifier, shares]).train().history[0]
    by_folder = make(arguments, reward_funcs=[str(folder), shares]).train().history[0]
    assert by_object["reward"] == by_object["rewards/SequenceClassifier/mean"] != 0
    assert by_folder["rewards/judge/mean"] == pytest.approx(by_object["reward"], rel=1e-5)


def test_a_reward_model_scores_as_it_was_trained_to(tiny_model, tokenizer):
    classifier = AutoEasyDeLModelForSequenceClassification.from_config(
        DecoderConfig(
            vocab_size=97, dim=16, num_layers=1, num_heads=2, num_kv_heads=1, mlp_dim=32, num_labels=1, pad_token_id=2
        ),
        seed=3,
    )
    judge = RewardModel(classifier, tokenizer, config())
    prompts, completions = ["w3 w4", "w9", "w3 w4"], [" w5 w6 w7", " w8", " w5"]
    scores = judge(prompts, completions)
    for prompt, completion, score in zip(prompts, completions, scores, strict=True):
        ids = np.asarray([tokenizer.encode(prompt + completion)])
        assert score == pytest.approx(float(classifier(ids)[0, 0]), rel=1e-4)


def test_evaluation_samples_the_held_out_prompts_and_changes_nothing(make, prompts):
    arguments = config(max_training_steps=2, evaluation_steps=1)
    trainer = make(arguments, eval_dataset=prompts[:3])
    before = trainer.evaluate()
    assert {"eval_loss", "eval_reward", "eval_rewards/shares/mean", "eval_completions/mean_length"} <= before.keys()
    assert numbers([trainer.evaluate()]) == numbers([before])
    trainer.train()
    plain = make(config(max_training_steps=2))
    plain.train()
    assert_equal(trainer, plain)


# Bad input.


def test_a_prompt_over_its_budget_loses_its_left_side_and_is_counted(make):
    seen = []

    def keep(prompts, completion_ids):
        seen.append(list(prompts))
        return [float(len(ids)) for ids in completion_ids]

    rows = [{"prompt": " ".join(f"w{3 + k}" for k in range(20))}] * 2
    trainer = make(config(max_training_steps=1), train_dataset=rows, reward_funcs=keep)
    batch = next(iter(trainer._training_batch_iterator()))
    assert batch["input_ids"].tolist() == [list(range(15, 23))] * 8
    trainer.train()
    assert trainer.data_report.counts["prompt_truncated"] == 2
    assert seen[0][0] == rows[0]["prompt"]  # reward functions see the row as it is


def test_empty_prompts_are_dropped_and_counted(make, prompts):
    trainer = make(train_dataset=[{"prompt": "", "wanted": 1, "name": ""}, *prompts[:2]])
    assert trainer.train().global_step == 1
    assert trainer.data_report.counts["dropped_empty"] == 1


def test_batches_of_prompts_are_padded_on_the_left(make):
    rows = [{"prompt": "w5 w6 w7"}, {"prompt": "w8"}]
    trainer = make(config(shuffle_train_dataset=False), train_dataset=rows, reward_funcs=nothing)
    batch = next(iter(trainer._training_batch_iterator()))
    assert batch["input_ids"].tolist() == [[5, 6, 7]] * 4 + [[0, 0, 8]] * 4
    assert batch["attention_mask"].tolist() == [[1, 1, 1]] * 4 + [[0, 0, 1]] * 4


def test_prompts_come_out_of_preference_rows_too(make):
    rows = [{"chosen": "w5 w6 w7", "rejected": "w5 w6 </s>"}, {"prompt": "w3", "chosen": "w4", "rejected": "w5"}]
    trainer = make(config(shuffle_train_dataset=False), train_dataset=rows, reward_funcs=nothing)
    batch = next(iter(trainer._training_batch_iterator()))
    assert batch["input_ids"][[0, 4]].tolist() == [[5, 6], [0, 3]]


def test_a_failing_reward_function_names_the_row_it_fails_for(make, prompts, tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in prompts))

    def fussy(completion_ids, name):
        assert "row 5" not in name, "no fifth row"
        return [float(len(ids)) for ids in completion_ids]

    trainer = make(config(shuffle_train_dataset=False), train_dataset=str(path), reward_funcs=fussy)
    with pytest.raises(RewardError, match="`fussy` raised AssertionError: no fifth row") as e:
        trainer.train()
    assert "prompts.jsonl row 5" in e.value.__notes__[0]


def test_equal_rewards_and_truncated_completions_leave_the_model_as_it_was(make):
    def all_alike(completion_ids):
        return [1.0] * len(completion_ids)

    trainer = make(config(max_training_steps=1), reward_funcs=all_alike)
    before = parameters(trainer)
    record = trainer.train().history[0]
    assert (record["frac_reward_zero_std"], record["grad_norm"], record["loss"]) == (1.0, 0.0, 0.0)
    for left, right in zip(parameters(trainer), before, strict=True):
        np.testing.assert_array_equal(left, right)


class Endless(Prepared):
    """Never stops by itself."""

    def generate(self, prompts, options):
        ids = [[3 + k] * 6 for _ in prompts for k in range(options.num_return_sequences)]
        return GenerateResult(token_ids=ids, logprobs=[[-4.0] * 6] * len(ids), finish_reasons=["length"] * len(ids))


@pytest.mark.parametrize("loss_type", ["grpo", "dapo"])
def test_a_step_of_truncated_completions_is_zero_and_finite(make, loss_type):
    trainer = make(
        config(max_training_steps=1, mask_truncated_completions=True, beta=0.1, loss_type=loss_type, num_iterations=1),
        engine=Endless(),
    )
    record = trainer.train().history[0]
    assert (record["completions/clipped_ratio"], record["grad_norm"], record["loss"]) == (1.0, 0.0, 0.0)
    assert all(np.isfinite(value) for value in record.values())
    assert record["completions/mean_terminated_length"] == 0


def test_without_an_eos_token_every_completion_is_truncated(make, tiny_model, tokenizer):
    tiny_model.config = replace(tiny_model.config, eos_token_ids=())
    endless = copy.deepcopy(tokenizer)
    endless.eos_token = None
    record = make(config(max_training_steps=1), processing_class=endless).train().history[0]
    assert record["completions/clipped_ratio"] == 1.0
    assert record["completions/min_length"] == 6
    with pytest.raises(ConfigError, match="EOS"):
        make(config(mask_truncated_completions=True), processing_class=endless)


@pytest.mark.parametrize("given", [(), [], "function"])
def test_something_must_judge(make, given):
    if given == "function":
        with pytest.raises(ConfigError, match="reward_weights"):
            make(config(reward_weights=[1.0, 2.0]))
        return
    with pytest.raises(ConfigError, match="reward_funcs"):
        make(reward_funcs=given)


def test_skipped_batches_are_left_out_and_a_last_rollout_may_have_fewer_prompts(make, prompts):
    trainer = make(config(total_batch_size=16, skip_batches=[2], num_iterations=2), train_dataset=prompts[:9])
    assert trainer.total_steps == 2 * 2
    output = trainer.train()
    assert output.global_step == 4
    assert trainer.data_report.rows == 9
    assert all(np.isfinite(record["loss"]) for record in output.history)


class Asked(Prepared):
    """Remembers what it was asked."""

    def __init__(self):
        self.options = []

    def generate(self, prompts, options):
        self.options.append(options)
        return super().generate(prompts, options)


def test_the_engine_is_asked_for_what_the_config_says(make):
    engine = Asked()
    drawing = {"temperature": 0.7, "top_k": 5, "top_p": 0.9, "min_p": 0.05, "repetition_penalty": 1.1}
    arguments = {**drawing, "importance_sampling_correction": False}
    make(config(max_training_steps=2, **arguments), engine=engine).train()
    first, second = engine.options
    assert {name: getattr(first, name) for name in drawing} == drawing
    assert first.do_sample
    assert (first.max_new_tokens, first.num_return_sequences, first.eos_token_ids) == (6, 4, (2,))
    assert first.seed != second.seed
    make(config(max_training_steps=1, **arguments), engine=engine).train()
    assert engine.options[2] == first
