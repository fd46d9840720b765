"""Where the reference model's log-probabilities come from changes nothing; what cannot be compared is refused."""

from __future__ import annotations

import copy
import logging

import pytest
from datasets import Dataset
from easydel_models import AutoEasyDeLModelForCausalLM
from easydel_trainers import Callback, ConfigError, DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

OPTIONS = {
    "learning_rate": 1e-2,
    "total_batch_size": 4,
    "max_training_steps": 4,
    "max_length": 24,
    "log_steps": 1,
    "length_buckets": [256],
    "gradient_checkpointing": "none",
    "shuffle_train_dataset": False,
}


@pytest.fixture
def make(tiny_model, tokenizer, pair_rows):
    def make(trainer=DPOTrainer, *, rows=pair_rows, reference_model=None, eval_dataset=None, **options):
        config = {DPOTrainer: DPOConfig, KTOTrainer: KTOConfig}[trainer]
        return trainer(
            copy.deepcopy(tiny_model),
            config(**OPTIONS | options),
            processing_class=tokenizer,
            train_dataset=rows,
            eval_dataset=eval_dataset,
            reference_model=reference_model,
        )

    return make


@pytest.fixture
def other_model(tiny_model):
    return AutoEasyDeLModelForCausalLM.from_config(tiny_model.config, seed=8)


def numbers(history):
    names = ("loss", "grad_norm", "rewards/chosen", "rewards/rejected", "kl")
    return [[record[name] for name in names if name in record] for record in history]


@pytest.mark.parametrize("trainer", [DPOTrainer, KTOTrainer])
def test_held_or_scored_beforehand_it_is_one_reference(make, other_model, pair_rows, trainer):
    held = numbers(make(trainer, reference_model=copy.deepcopy(other_model)).train().history)
    streamed = Dataset.from_list(pair_rows).to_iterable_dataset()
    precomputed = make(trainer, rows=streamed, reference_model=other_model, precompute_ref_log_probs=True)
    assert precomputed.source.reference.held is None  # no second set of parameters
    for ours, theirs in zip(numbers(precomputed.train().history), held, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6)


def test_without_one_it_is_the_policy_before_training(make, tiny_model):
    history = make().train().history
    assert history[0]["rewards/chosen"] == pytest.approx(0, abs=1e-5)
    assert history[0]["loss"] == pytest.approx(0.6931472, abs=1e-5)
    given = make(reference_model=copy.deepcopy(tiny_model)).train().history
    assert numbers(given) == numbers(history)


def test_scores_on_disk_are_found_again_and_never_taken_for_another_models(
    make, other_model, pair_rows, tmp_path, caplog
):
    options = {"precompute_ref_log_probs": True, "ref_log_probs_directory": str(tmp_path)}
    caplog.set_level(logging.INFO, "easydel_trainers.reference.reference")
    first = make(**options).train().history
    again = make(**options).train().history
    another = make(reference_model=other_model, **options).train().history
    scored = [message.split(": ")[1] for message in caplog.messages if message.startswith("Reference scores")]
    assert scored == [
        "32 sequences scored, 0 known before.",
        "0 sequences scored, 32 known before.",
        "32 sequences scored, 0 known before.",
    ]
    assert numbers(again) == numbers(first)
    assert numbers(another) != numbers(first)
    assert len(list(tmp_path.iterdir())) == 2  # a folder for each model


def test_rows_that_were_never_scored_are_refused_by_name(make, pair_rows):
    trainer = make(rows=pair_rows[:16], precompute_ref_log_probs=True)
    trainer.train()
    with pytest.raises(ConfigError, match=r"precompute_ref_log_probs.*give them as eval_dataset"):
        trainer.evaluate(pair_rows[16:])


def test_a_reference_that_follows_at_once_leaves_no_reward(make):
    """TR-DPO with the whole policy after every step: policy and reference are one at the beginning of each."""
    history = make(sync_ref_model=True, ref_model_mixup_alpha=1.0, ref_model_sync_steps=1).train().history
    for record in history:
        assert record["rewards/chosen"] == pytest.approx(0, abs=1e-5)
        assert record["loss"] == pytest.approx(0.6931472, abs=1e-5)


class Steps(Callback):
    def __init__(self, taken):
        self.taken = taken

    def on_step(self, run):
        self.taken.append(run.step)


def test_a_following_reference_is_part_of_the_checkpoint(make, tmp_path, break_off):
    options = {"sync_ref_model": True, "ref_model_mixup_alpha": 0.5, "ref_model_sync_steps": 2}
    whole = make(**options).train().history
    saved = options | {"save_directory": str(tmp_path), "save_steps": 2}
    broken = make(**saved)
    broken.callbacks = (break_off(3),)
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    resumed, taken = make(**saved), []
    resumed.callbacks = (Steps(taken),)
    assert numbers(resumed.train().history) == numbers(whole)
    assert taken == [3, 4]


def test_a_reference_with_another_vocabulary_is_refused(make, tiny_model):
    import dataclasses

    wider = AutoEasyDeLModelForCausalLM.from_config(dataclasses.replace(tiny_model.config, vocab_size=101), seed=1)
    with pytest.raises(ConfigError, match=r"reference_model.*a model of 101 tokens.*one of 97 tokens"):
        make(reference_model=wider)


def test_what_contradicts_a_held_reference_is_refused():
    with pytest.raises(ConfigError, match="reference_free"):
        DPOConfig(reference_free=True, precompute_ref_log_probs=True)
    with pytest.raises(ConfigError, match="sync_ref_model"):
        DPOConfig(sync_ref_model=True, precompute_ref_log_probs=True)


def test_rewards_beside_the_sft_loss_are_differences_to_the_reference(make):
    """They begin at 0, as under every other loss."""
    history = make(loss_type="sft", max_training_steps=2).train().history
    assert history[0]["rewards/chosen"] == pytest.approx(0, abs=1e-5)
    assert history[1]["rewards/chosen"] != 0


def test_a_reference_that_follows_in_bfloat16_moves(make):
    """A hundredth of the way is less than bfloat16 can tell of a weight, but not of a hundred steps."""
    import jax
    import jax.numpy as jnp
    from easydel_trainers.reference.model import ReferenceModel

    held, policy = ({"w": jnp.full(3, value, jnp.bfloat16)} for value in (1.0, 1.01))
    reference = ReferenceModel(jax.tree.map(jnp.copy, held), None)
    for _ in range(100):
        reference.follow(policy, alpha=0.01)
    expected = float(policy["w"][0]) - (float(policy["w"][0]) - 1.0) * 0.99**100
    assert reference.arrays()["w"][0] == pytest.approx(expected, rel=1e-5)


def test_advice_on_class_weights_counts_what_was_trained_on(make, caplog):
    """Neither rows that were read ahead nor held-out ones, which are all desirable here."""
    rows = [{"prompt": "w3 w4", "completion": f" w{5 + k}", "label": k % 4 != 0} for k in range(16)]
    held_out = [{"prompt": "w3 w4", "completion": " w9", "label": True}] * 8
    with caplog.at_level(logging.WARNING):
        trainer = make(KTOTrainer, rows=rows, eval_dataset=held_out, max_training_steps=2, evaluation_steps=1)
        trainer.train()
    assert "6 desirable and 2 undesirable completions" in caplog.text
    assert "desirable_weight between 0.33 and 0.44" in caplog.text
